"""Figure of a table: a panel per column, rows from top to bottom, on an axis that covers the range of the data."""

import math
import textwrap
from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from benchmarks.report.canvas import legend, panels, shortened
from benchmarks.report.style import Style
from benchmarks.tables.benchmark import Benchmark, Measure

PAPER_TICK: dict[str, Any] = {"marker": "|", "color": "tab:red", "markersize": 11, "markeredgewidth": 2}
TITLE = 30  # characters of a panel's title in a line
FAR, FAR_POINTS = 4.0, 5.0  # rows are off the axis beyond this many median distances, and this many points
Paper = Mapping[tuple[str, str, str], float]  # from published()


def dots(
    data: pd.DataFrame, benchmark: Benchmark, rows: list[str], paper: Paper, styles: Mapping[str, Style]
) -> Figure:
    """Draws a panel per column (and per measure, if their units differ).

    The first measure of a panel is filled, the next is hollow. data: row, column, measure, mean, sd. Rows far from the
    others (a teacher, or a method that collapsed) are written at the panel's edge with their numbers and an arrow.
    """
    same_unit = all(measure.published or "top-1" in measure.title for measure in benchmark.measures)
    columns = list(dict.fromkeys(map(str, data["column"])))
    shared = [benchmark.measures] if same_unit else [(measure,) for measure in benchmark.measures]
    placed = [(column, measures) for column in columns for measures in shared]
    names = [shortened(row) for row in rows]
    handles = _handles(benchmark.measures if same_unit and len(benchmark.measures) > 1 else (), bool(paper))
    figure, axes = panels(len(placed), 3, (2.6, 0.9 + 0.24 * len(rows)), names, sharey=True)
    for axis, (column, measures) in zip(axes, placed, strict=True):
        part = data[(data["column"] == column) & data["measure"].isin([m.label for m in measures])]
        _panel(axis, part, measures, rows, styles, off_axis(part, same_unit))
        for place, row in enumerate(rows):
            known = [paper[row, column, m.published] for m in measures if (row, column, m.published) in paper]
            if known:
                axis.plot(known[0], place, zorder=5, **PAPER_TICK)
        title = column if same_unit else f"{column}: {measures[0].label}"
        axis.set(title=textwrap.fill(title, TITLE, break_long_words=False), ylabel="")
        axis.set_xlabel("top-1 (%)" if same_unit else measures[0].title, fontsize=8)
        axis.set_yticks(range(len(rows)), names)
        for label in axis.get_yticklabels():
            label.set_fontweight("bold" if label.get_text() == shortened(benchmark.reference) else "normal")
        axis.set_ylim(len(rows) - 0.5, -0.5)
        axis.grid(axis="y", color="0.9", linewidth=0.7)
        axis.margins(x=0.08)
    return legend(figure, rows, styles, handles) if handles else figure


def _panel(
    axis: Axes,
    part: pd.DataFrame,
    measures: Sequence[Measure],
    rows: list[str],
    styles: Mapping[str, Style],
    off: Mapping[str, str],
) -> None:
    for row, text in off.items():
        right = text.endswith("→")
        axis.annotate(
            text, (0.99 if right else 0.02, rows.index(row)), xycoords=axis.get_yaxis_transform(),
            ha="right" if right else "left", va="center", fontsize=8,
        )  # fmt: skip
    bars: list[tuple[float, float, float, str]] = []
    for number, measure in enumerate(measures):
        offset = 0.34 * (number / (len(measures) - 1) - 0.5) if len(measures) > 1 else 0.0
        for entry in part[part["measure"] == measure.label].to_dict("records"):
            if entry["row"] in off:
                continue
            style, place = styles[entry["row"]], rows.index(entry["row"]) + offset
            face = "white" if number else style.hex
            axis.plot(entry["mean"], place, color=style.hex, marker=style.marker, markerfacecolor=face, markersize=5.5)
            if entry["sd"]:
                bars.append((place, entry["mean"] - entry["sd"], entry["mean"] + entry["sd"], style.hex))
    if bars:
        places, lows, highs, colours = zip(*bars, strict=True)
        axis.hlines(places, lows, highs, colors=colours, linewidth=1.1, zorder=1.9)


def off_axis(part: pd.DataFrame, points: bool) -> dict[str, str]:
    """Returns texts ("69.7 →", "← 1.5") for the rows that would compress the axis for the others: the teacher, or a
    minority of the students, if they are far from the students' median (relative to the median distance from it).

    points: the numbers are points of accuracy.
    """
    means = part.groupby("row", sort=False)["mean"]
    texts = means.agg(lambda values: ", ".join(dict.fromkeys(f"{value:.1f}" for value in values)))
    middle = means.mean()
    students = middle[middle.index != "Teacher"]
    apart = middle - students.median()
    limit = max(FAR * apart[students.index].abs().median(), FAR_POINTS if points else 0.0) or math.inf
    far = apart[apart.abs() > limit]
    return {str(row): f"{texts[str(row)]} →" if gap > 0 else f"← {texts[str(row)]}" for row, gap in far.items()}


def _handles(measures: Sequence[Measure], paper: bool) -> list[Line2D]:
    look: dict[str, Any] = {"linestyle": "none", "marker": "o", "color": "0.3", "markerfacecolor": "0.3"}
    handles = []
    for measure in measures:
        handles.append(Line2D([], [], label=f"{measure.label} epoch", **look))
        look["markerfacecolor"] = "white"
    return [*handles, Line2D([], [], linestyle="none", label="paper", **PAPER_TICK)] if paper else handles
