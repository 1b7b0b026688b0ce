"""Figures as PNG and PDF: mean and standard deviation over seeds, and the paper's value if the runs have its setting.

Readable in grey: every method has its own marker and line style (style.py). The same results give the same bytes.
"""

from collections.abc import Mapping
from typing import Any

import pandas as pd
import seaborn as sns
from matplotlib.figure import Figure

from benchmarks.analysis.embedding import Layouts
from benchmarks.analysis.published import published
from benchmarks.report.canvas import dashes, legend, panels, shortened
from benchmarks.report.dots import PAPER_TICK, Paper, dots
from benchmarks.report.gains import gains_by_year
from benchmarks.report.style import Style
from benchmarks.report.tables import comparable_columns
from benchmarks.tables.benchmark import HELD_OUT, Benchmark


def draw(
    frame: pd.DataFrame, benchmark: Benchmark, styles: Mapping[str, Style], layouts: Layouts | None = None
) -> Figure | None:
    """Returns the benchmark's figure; None without results.

    frame: the benchmark's rows of the report's frame. styles: by row. layouts: for a figure of kind "embedding".
    """
    if benchmark.figure == "embedding":
        return _embedding(layouts) if layouts else None
    if benchmark.figure == "years":
        return gains_by_year(frame, benchmark)
    data = _means(frame, benchmark)
    if data.empty:
        return None
    comparable = comparable_columns(frame, benchmark)
    paper = {key: value for key, value in published(benchmark.id).items() if key[1] in comparable}
    rows = list(dict.fromkeys(map(str, frame["row"])))
    return (_lines if benchmark.figure == "lines" else dots)(data, benchmark, rows, paper, styles)


def _means(frame: pd.DataFrame, benchmark: Benchmark) -> pd.DataFrame:
    """Returns row, column, measure, mean and sd (0 for one seed) over the runs with results. Of accuracies only those
    on test images are drawn."""
    parts = []
    for measure in benchmark.measures:
        if measure.name in frame and measure != HELD_OUT:
            known = frame[frame[measure.name].notna()]
            grouped = known.groupby(["row", "column"], sort=False)[measure.name]
            parts.append(grouped.agg(mean="mean", sd="std").reset_index().assign(measure=measure.label))
    names = ["row", "column", "measure", "mean", "sd"]
    return pd.concat(parts, ignore_index=True).fillna({"sd": 0.0}) if parts else pd.DataFrame(columns=names)


def _lines(
    data: pd.DataFrame, benchmark: Benchmark, rows: list[str], paper: Paper, styles: Mapping[str, Style]
) -> Figure:
    """Draws the columns' numbers along x, a line per row and a panel per measure. The reference's line is thicker."""
    data = data.assign(x=[float(str(column).rstrip(" %")) for column in data["column"]]).sort_values("x")
    ticks = sorted(set(data["x"]))
    rows = [row for row in rows if row in set(data["row"])]
    measures = [measure for measure in benchmark.measures if measure.label in set(data["measure"])]
    figure, axes = panels(len(measures), 2, (3.6, 2.9), sharey=True)
    for axis, measure in zip(axes, measures, strict=True):
        for place, row in enumerate(rows):
            part = data[(data["measure"] == measure.label) & (data["row"] == row)]
            style, width = styles[row], 2.6 if row == benchmark.reference else 1.4
            line: dict[str, Any] = {"color": style.hex, "marker": style.marker, "markersize": 5, "linewidth": width}
            # shifted, because error bars at the same x would overlap
            shift = (place - (len(rows) - 1) / 2) * 0.006 * ((ticks[-1] - ticks[0]) or 1.0)
            axis.errorbar(
                part["x"] + shift, part["mean"], yerr=part["sd"], elinewidth=1.0, linestyle=dashes(style), **line
            )
        for (row, column, name), known in paper.items():
            if name == measure.published and row in rows:
                axis.plot(float(column.rstrip(" %")), known, **PAPER_TICK)
        axis.set(xlabel=f"{benchmark.columns} (%)", ylabel="top-1 (%)", title=f"{measure.label} epoch")
        axis.set_xticks(ticks)
        if len(ticks) == 1:  # otherwise the axis only covers the shifts
            axis.set_xlim(ticks[0] - 0.06, ticks[0] + 0.06)
        axis.label_outer()
    return legend(figure, rows, styles)


def _embedding(layouts: Layouts) -> Figure:
    """Draws the layouts side by side; each class has its digit as marker in addition to its colour."""
    figure, axes = panels(len(layouts), len(layouts), (3.1, 3.2))
    palette = sns.color_palette("colorblind", 10)
    for axis, (title, (layout, labels, silhouette)) in zip(axes, layouts.items(), strict=True):
        for label in sorted(set(labels.tolist())):
            points, color = layout[labels == label], palette[label % len(palette)]
            axis.scatter(points[:, 0], points[:, 1], s=22, color=color, marker=f"${label}$", linewidths=0.2)
        axis.set(title=f"{shortened(title)}: silhouette {silhouette:.3f}", xticks=[], yticks=[])
        axis.spines[:].set_visible(False)
    return figure
