"""Training curves as numbers for inline SVG: a plot for each column of a benchmark, a line for each of its runs."""

import math
from collections.abc import Mapping
from typing import NamedTuple

import pandas as pd

from benchmarks.report.look import Look
from benchmarks.tables.benchmark import Benchmark

WIDTH, HEIGHT = 640, 280
LEFT, RIGHT, TOP, BOTTOM = 44, 12, 10, 30

Curve = list[tuple[int, float]]


class Line(NamedTuple):
    """points: of an SVG polyline."""

    run: str
    row: str
    look: str  # the row's colour and dashes, as classes of the page's style
    seed: int
    points: str
    end: str  # the last value, as text


class Tick(NamedTuple):
    place: float
    text: str


class Plot(NamedTuple):
    id: str
    title: str
    lines: list[Line]
    rows: list[tuple[str, str]]  # the legend: look and name
    x_ticks: list[Tick]
    y_ticks: list[Tick]


def curve_groups(
    frame: pd.DataFrame, benchmark: Benchmark, curves: dict[str, Curve], shown: Mapping[str, Look]
) -> list[Plot]:
    """A plot for each column of the benchmark that has curves. ``curves``: (epoch, accuracy) by run; ``shown``: each
    row's look."""
    plots: list[Plot] = []
    for column, group in frame.groupby("column", sort=False):
        entries = [
            (run, str(row), int(seed))
            for run, row, seed in zip(group["id"], group["row"], group["seed"], strict=True)
            if isinstance(run, str) and curves.get(run)
        ]
        if entries:
            name = f"{benchmark.id}-{len(plots) + 1}"
            plots.append(_plot(name, str(column), entries, shown, curves))
    return plots


def _plot(
    name: str, title: str, entries: list[tuple[str, str, int]], shown: Mapping[str, Look], curves: dict[str, Curve]
) -> Plot:
    epochs = [epoch for run, _, _ in entries for epoch, _ in curves[run]]
    values = [value for run, _, _ in entries for _, value in curves[run]]
    x_marks, y_marks = _round_marks(min(epochs), max(epochs), whole=True), _round_marks(min(values), max(values))
    x_low, x_high = min(epochs), max(max(epochs), min(epochs) + 1)
    y_low, y_high = min(y_marks[0], min(values)), max(y_marks[-1], max(values))

    def x(epoch: float) -> float:
        return round(LEFT + (WIDTH - LEFT - RIGHT) * (epoch - x_low) / (x_high - x_low), 1)

    def y(value: float) -> float:
        return round(TOP + (HEIGHT - TOP - BOTTOM) * (1 - (value - y_low) / ((y_high - y_low) or 1.0)), 1)

    classes = {row: f"k-{shown[row].colour} d{shown[row].dash}" for _, row, _ in entries}
    lines = []
    for run, row, seed in entries:
        points = " ".join(f"{x(epoch):g},{y(value):g}" for epoch, value in curves[run])
        lines.append(Line(run, row, classes[row], seed, points, f"{curves[run][-1][1]:.2f}"))
    return Plot(
        name,
        title,
        lines,
        [(look, row) for row, look in classes.items()],
        [Tick(x(mark), f"{mark:g}") for mark in x_marks if x_low <= mark <= x_high],
        [Tick(y(mark), f"{mark:g}") for mark in y_marks],
    )


def _round_marks(low: float, high: float, whole: bool = False) -> list[float]:
    """About five round numbers from ``low`` to ``high``."""
    span = (high - low) or 1.0
    step = 10 ** math.floor(math.log10(span / 4))
    step = next(step * factor for factor in (1, 2, 5, 10) if span / (step * factor) <= 6)
    step = max(1, round(step)) if whole else step
    first, last = math.floor(low / step), math.ceil(high / step)
    return [round(place * step, 6) for place in range(first, last + 1)]
