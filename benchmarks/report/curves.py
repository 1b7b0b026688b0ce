"""Learning curves: per method a mean and a band over seeds, as curves.csv and on the page. The page draws single runs
if there are few."""

from collections.abc import Mapping
from typing import NamedTuple

import numpy as np
import pandas as pd
from matplotlib.ticker import MaxNLocator

from benchmarks.report.style import Style
from benchmarks.tables.benchmark import Benchmark
from sskd.formatting import plural

WIDTH, HEIGHT = 640, 280
LEFT, RIGHT, TOP, BOTTOM = 44, 12, 10, 30
MOST_LINES = 60  # maximum number of runs in a plot of the page; with more runs it has a line per method
IMAGES = ("test", "held-out")  # images of the accuracy, in the order of a curve's columns after the epoch
CELL = ["benchmark", "row", "column"]
NAMES = (*CELL, "epoch", "seeds", *(f"{images} {kind}" for images in IMAGES for kind in ("mean", "sd")))


class Line(NamedTuple):
    """A curve of a plot. points: an SVG polyline. band: an SVG polygon, or "". run: the run's id, "" for a mean over
    seeds."""

    run: str
    row: str
    style: str  # CSS classes of the row's colour and dashes
    words: str  # description
    points: str
    band: str
    end: str  # the last value, as text


class Plot(NamedTuple):
    id: str
    column: str
    title: str
    lines: list[Line]
    rows: list[tuple[str, str]]  # the legend: style and name
    x_ticks: list[tuple[float, str]]  # place and text
    y_ticks: list[tuple[float, str]]


Curve = tuple[str, str, str, np.ndarray]  # run, row, words, and points (n, 3): epoch, accuracy, sd (nan: no band)


def mean_curves(frame: pd.DataFrame, curves: Mapping[str, np.ndarray]) -> pd.DataFrame:
    """Returns the mean curve of every cell's finished runs, at the epochs that all of them have.

    Columns: benchmark, row, column, epoch, seeds, and the mean and standard deviation (n - 1) over seeds of the
    accuracy on test and validation images. frame: the report's frame. curves: per run, from frame.curve_of.
    """
    finished = frame[(frame["state"] == "finished") & (frame["benchmark"] != "")].drop_duplicates([*CELL, "id"])
    runs = [
        pd.DataFrame(curves[run["id"]], columns=["epoch", *IMAGES]).assign(**{key: run[key] for key in (*CELL, "id")})
        for run in finished.to_dict("records")
        if len(curves.get(run["id"], ()))
    ]
    if not runs:
        return pd.DataFrame(columns=[*NAMES])
    points = pd.concat(runs, ignore_index=True)
    points["seeds"] = points.groupby(CELL)["id"].transform("nunique")
    shared = points[points.groupby([*CELL, "epoch"])["id"].transform("nunique") == points["seeds"]]
    means = shared.groupby([*CELL, "epoch", "seeds"], sort=False)[[*IMAGES]].agg(["mean", "std"]).round(4)
    return means.set_axis(NAMES[5:], axis="columns").reset_index().astype({"epoch": int})


def curve_groups(
    frame: pd.DataFrame,
    benchmark: Benchmark,
    curves: Mapping[str, np.ndarray],
    means: pd.DataFrame,
    styles: Mapping[str, Style],
) -> list[Plot]:
    """Returns a plot for each column of the benchmark that has curves, and a second one for validation images if there
    are any. frame: the benchmark's rows of the report's frame. means: from mean_curves. styles: each row's style."""
    plots: list[Plot] = []
    means = means[means["benchmark"] == benchmark.id]
    for column, group in frame.groupby("column", sort=False):
        runs = [run for run in group.to_dict("records") if len(curves.get(run["id"], ()))]
        for place, images in enumerate(IMAGES, start=1):
            found: list[Curve] = []
            if len(runs) > MOST_LINES:
                for row, part in means[means["column"] == column].groupby("row", sort=False):
                    words = f"{row}, mean of {plural(part['seeds'].iloc[0], 'seed')}"
                    points = part[["epoch", f"{images} mean", f"{images} sd"]].to_numpy(dtype=float)
                    found.append(("", str(row), words, points))
            else:
                for run in runs:
                    points = np.insert(curves[run["id"]][:, [0, place]], 2, np.nan, axis=1)
                    found.append((run["id"], run["row"], f"{run['row']}, seed {run['seed']}", points))
            found = [curve for curve in found if np.isfinite(curve[-1][:, 1]).any()]
            if found:
                title = str(column) if images == "test" else f"{column}, validation images"
                name = f"{benchmark.id}-{len(plots) + 1}"
                plots.append(_plot(name, str(column), title, found, styles))
    return plots


def _plot(name: str, column: str, title: str, curves: list[Curve], styles: Mapping[str, Style]) -> Plot:
    every = np.concatenate([points for *_, points in curves])
    every = every[np.isfinite(every[:, 1])]
    epochs, spread = every[:, 0], np.nan_to_num(every[:, 2])
    low, high = float((every[:, 1] - spread).min()), float((every[:, 1] + spread).max())
    x_marks = MaxNLocator(6, steps=[1, 2, 5, 10], integer=True).tick_values(epochs.min(), epochs.max())
    y_marks = MaxNLocator(6, steps=[1, 2, 5, 10]).tick_values(low, high)
    x_low, x_high = epochs.min(), max(epochs.max(), epochs.min() + 1)
    y_low, y_high = min(y_marks[0], low), max(y_marks[-1], high)

    def x(epoch: np.ndarray | float) -> np.ndarray:
        return np.round(np.interp(epoch, (x_low, x_high), (LEFT, WIDTH - RIGHT)), 1)

    def y(value: np.ndarray | float) -> np.ndarray:
        return np.round(np.interp(value, (y_low, y_high), (HEIGHT - BOTTOM, TOP)), 1)

    def joined(epochs: np.ndarray, values: np.ndarray) -> str:
        return " ".join(f"{a:g},{b:g}" for a, b in zip(x(epochs).tolist(), y(values).tolist(), strict=True))

    classes = {row: f"k-{styles[row].colour} d{styles[row].dash}" for _, row, *_ in curves}
    lines = []
    for run, row, words, points in curves:
        epochs, values, spread = points[np.isfinite(points[:, 1])].T
        band = ""
        if np.isfinite(spread).all():
            edges = (values + spread, (values - spread)[::-1])
            band = joined(np.concatenate([epochs, epochs[::-1]]), np.concatenate(edges))
        line = joined(epochs, values)
        lines.append(Line(run, row, classes[row], words, line, band, f"{values[-1]:.2f}"))
    return Plot(
        name,
        column,
        title,
        lines,
        [(style, row) for row, style in classes.items()],
        [(float(x(mark)), f"{mark:g}") for mark in x_marks if x_low <= mark <= x_high],
        [(float(y(mark)), f"{mark:g}") for mark in y_marks],
    )
