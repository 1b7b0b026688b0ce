"""Figures, PNG and PDF: mean and deviation over seeds, the paper's value where runs have its setting.

Readable in grey (every method has its own marker and line, benchmarks/report/style.py), and the same bytes for the same
results.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from benchmarks.analysis.published import published
from benchmarks.report.canvas import Drawn, dashes, finish, fitted, panels, save, shortened, style
from benchmarks.report.dots import PAPER_TICK, Paper, dots
from benchmarks.report.style import Look, looks
from benchmarks.report.tables import comparable_columns
from benchmarks.statistics.gains import gains_by_year
from benchmarks.tables.benchmark import Benchmark

Layouts = Mapping[str, tuple[np.ndarray, np.ndarray, float]]  # title to layout (N, 2), labels (N,), silhouette


def draw(
    frame: pd.DataFrame,
    benchmark: Benchmark,
    folder: Path,
    layouts: Layouts | None = None,
    shown: Mapping[str, Look] | None = None,
) -> Drawn | None:
    """Draws the benchmark's figure as <folder>/<id>.png and .pdf; None while there is no number.

    frame: its rows of the report's frame. layouts: of an "embedding" figure, what is drawn. shown: the report's looks
    by row; without it, those of the frame's rows alone.
    """
    shown = shown or looks(map(str, frame["row"]))
    with style():
        wide, narrow = (_figure(frame, benchmark, layouts, shown, kind) for kind in (False, True))
        if wide is None or narrow is None:
            return None
        return save(wide, narrow, folder / benchmark.id)


def _figure(
    frame: pd.DataFrame, benchmark: Benchmark, layouts: Layouts | None, shown: Mapping[str, Look], narrow: bool
) -> Figure | None:
    if benchmark.figure == "embedding":
        return _embedding(layouts, narrow) if layouts else None
    if benchmark.figure == "years":
        figure = gains_by_year(frame, narrow)
        return figure and fitted(figure)
    data = _means(frame, benchmark)
    if data.empty:
        return None
    comparable = comparable_columns(frame, benchmark)
    paper = {key: value for key, value in published(benchmark.id).items() if key[1] in comparable}
    rows = list(dict.fromkeys(map(str, frame["row"])))
    drawing = _lines if benchmark.figure == "lines" else dots
    return drawing(data, benchmark, rows, paper, shown, narrow)


def _means(frame: pd.DataFrame, benchmark: Benchmark) -> pd.DataFrame:
    """row, column, measure, mean and sd (0 for one seed) over the runs that have the number."""
    parts = []
    for measure in benchmark.measures:
        if measure.name in frame:
            known = frame[frame[measure.name].notna()]
            grouped = known.groupby(["row", "column"], sort=False)[measure.name]
            parts.append(grouped.agg(mean="mean", sd="std").reset_index().assign(measure=measure.label))
    names = ["row", "column", "measure", "mean", "sd"]
    return pd.concat(parts, ignore_index=True).fillna({"sd": 0.0}) if parts else pd.DataFrame(columns=names)


def _lines(
    data: pd.DataFrame, benchmark: Benchmark, rows: list[str], paper: Paper, shown: Mapping[str, Look], narrow: bool
) -> Figure:
    """The columns' numbers along x, a line for each row; the first measure on the left, the next on its right. The row
    that others are compared with is thicker."""
    data = data.assign(x=[float(str(column).rstrip(" %")) for column in data["column"]]).sort_values("x")
    ticks = sorted(set(data["x"]))
    rows = [row for row in rows if row in set(data["row"])]
    figure, axes = panels(len(benchmark.measures), 2, (3.6, 2.9), narrow, [shortened(row) for row in rows])
    handles: list[Line2D] = []
    for axis, measure in zip(axes, benchmark.measures, strict=True):
        handles = []
        for place, row in enumerate(rows):
            part = data[(data["measure"] == measure.label) & (data["row"] == row)]
            look, width = shown[row], 2.6 if row == benchmark.reference else 1.4
            line: dict[str, Any] = {"color": look.hex, "marker": look.marker, "markersize": 5, "linewidth": width}
            line |= {"linestyle": dashes(look), "label": shortened(row)}
            # bars of several lines at one place would cover each other
            shift = (place - (len(rows) - 1) / 2) * 0.006 * ((ticks[-1] - ticks[0]) or 1.0)
            axis.errorbar(part["x"] + shift, part["mean"], yerr=part["sd"], elinewidth=1.0, **line)
            handles.append(Line2D([], [], **line))
        for (row, column, name), known in paper.items():
            if name == measure.published and row in rows:
                axis.plot(float(column.rstrip(" %")), known.value, **PAPER_TICK)  # type: ignore[arg-type]
        axis.set(xlabel=f"{benchmark.columns} (%)", ylabel="top-1 (%)", title=f"{measure.label} epoch")
        axis.set_xticks(ticks)
        if len(ticks) == 1:  # else the axis is as wide as the shifts
            axis.set_xlim(ticks[0] - 0.06, ticks[0] + 0.06)
        if not narrow:
            axis.label_outer()
    return finish(figure, handles)


def _embedding(layouts: Layouts, narrow: bool) -> Figure:
    """Layouts side by side, or below each other: a class has its digit as marker besides its colour."""
    figure, axes = panels(len(layouts), len(layouts), (3.1, 3.2), narrow, sharey=False)
    palette = sns.color_palette("colorblind", 10)
    for axis, (title, (layout, labels, silhouette)) in zip(axes, layouts.items(), strict=True):
        _classes(axis, layout, labels, palette)
        axis.set(title=f"{title}: silhouette {silhouette:.3f}", xticks=[], yticks=[])
        axis.spines[:].set_visible(False)
    return fitted(figure)


def _classes(axis: Axes, layout: np.ndarray, labels: np.ndarray, palette: list[tuple[float, float, float]]) -> None:
    for label in sorted(set(labels.tolist())):
        points = layout[labels == label]
        color = palette[label % len(palette)]
        axis.scatter(points[:, 0], points[:, 1], s=22, color=color, marker=f"${label}$", linewidths=0.2)
