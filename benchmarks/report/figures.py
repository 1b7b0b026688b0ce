"""Figures, PNG and PDF: mean and deviation over seeds, the paper's value where runs have its setting.

Readable in grey (every method has its own marker and line, benchmarks/report/look.py), and the same bytes for the same
results.
"""

import io
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import matplotlib

matplotlib.use("Agg")  # no display is needed, and none is opened

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from benchmarks.analysis.gains import gains_by_year
from benchmarks.analysis.published import Value, published
from benchmarks.report.look import DASHES, Look, looks
from benchmarks.report.tables import comparable_columns
from benchmarks.tables.benchmark import Benchmark, Measure
from sskd.runs.files import write_atomically

STYLE: dict[Any, Any] = {"font.size": 9, "axes.titlesize": 9, "axes.spines.top": False, "axes.spines.right": False}
STYLE |= {"pdf.fonttype": 42, "svg.hashsalt": "sskd", "figure.dpi": 100, "savefig.dpi": 160}
NARROW_INCHES = 3.6  # a phone's width at the size that the page shows figures in
LEGEND_INCHES = 0.22  # a line of the legend
PAPER_TICK: dict[str, Any] = {"marker": "|", "color": "tab:red", "markersize": 11, "markeredgewidth": 2}
Layouts = Mapping[str, tuple[np.ndarray, np.ndarray, float]]  # title to layout (N, 2), labels (N,), silhouette
Paper = Mapping[tuple[str, str, str], Value]  # as published() has it


class Drawn(NamedTuple):
    """A benchmark's figure: its files, and as a PNG the narrow form, panels below each other, that phones are shown."""

    paths: list[Path]
    narrow: bytes


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
    with plt.rc_context(STYLE), sns.axes_style("ticks", rc=STYLE):
        wide, narrow = (_figure(frame, benchmark, layouts, shown, kind) for kind in (False, True))
        if wide is None or narrow is None:
            return None
        return save(wide, narrow, folder / benchmark.id)


def save(wide: Figure, narrow: Figure, path: Path) -> Drawn:
    """Writes <path>.png and .pdf, without dates and versions: the same results give the same files. Closes both."""
    paths = []
    for suffix, metadata in (("png", {"Software": None}), ("pdf", {"CreationDate": None, "Producer": None})):
        paths.append(path.with_name(f"{path.name}.{suffix}"))
        write_atomically(
            paths[-1],
            lambda file, kind=suffix, data=metadata: wide.savefig(  # type: ignore[misc]
                file, format=kind, metadata=data, bbox_inches="tight"
            ),
        )
    buffer = io.BytesIO()
    narrow.savefig(buffer, format="png", metadata={"Software": None})
    plt.close(wide)
    plt.close(narrow)
    return Drawn(paths, buffer.getvalue())


def _figure(
    frame: pd.DataFrame, benchmark: Benchmark, layouts: Layouts | None, shown: Mapping[str, Look], narrow: bool
) -> Figure | None:
    if benchmark.figure == "embedding":
        return _embedding(layouts, narrow) if layouts else None
    if benchmark.figure == "years":
        return gains_by_year(frame, narrow)
    data = _means(frame, benchmark)
    if data.empty:
        return None
    comparable = comparable_columns(frame, benchmark)
    paper = {key: value for key, value in published(benchmark.id).items() if key[1] in comparable}
    rows = list(dict.fromkeys(map(str, frame["row"])))
    drawing = _lines if benchmark.figure == "lines" else _dots
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


def panels(
    count: int, across: int, size: tuple[float, float], narrow: bool, legend_lines: int, sharey: bool = True
) -> tuple[Figure, list[Axes]]:
    """A figure of ``count`` panels of ``size`` (width, height in inches), below each other if narrow, with room for the
    legend above. Axes that are left over are removed."""
    across = 1 if narrow else min(across, count)
    down = -(-count // across)
    width = NARROW_INCHES if narrow else 1.0 + size[0] * across
    height = down * size[1] + LEGEND_INCHES * legend_lines
    figure, axes = plt.subplots(down, across, figsize=(width, height), sharey=sharey, squeeze=False)
    for axis in axes.flat[count:]:
        axis.remove()
    return figure, list(axes.flat[:count])


def finish(figure: Figure, handles: Sequence[Line2D], lines: int, columns: int) -> Figure:
    height = figure.get_size_inches()[1]
    if handles:
        figure.legend(
            handles=handles, loc="upper center", bbox_to_anchor=(0.5, 1.0), ncols=columns, frameon=False,
            borderaxespad=0.1, columnspacing=1.2, handletextpad=0.5, labelspacing=0.35,
        )  # fmt: skip
    figure.tight_layout(rect=(0, 0, 1, 1 - lines * LEGEND_INCHES / height))
    return figure


def _dots(
    data: pd.DataFrame, benchmark: Benchmark, rows: list[str], paper: Paper, shown: Mapping[str, Look], narrow: bool
) -> Figure:
    """A panel for each column (or measure, where measures have units of their own), rows downwards. The first measure
    of a panel is filled, the next hollow."""
    same_unit = all(measure.published or "top-1" in measure.title for measure in benchmark.measures)
    columns = list(dict.fromkeys(map(str, data["column"])))
    placed: list[tuple[str, tuple[Measure, ...]]] = (
        [(column, benchmark.measures) for column in columns]
        if same_unit
        else [(column, (measure,)) for column in columns for measure in benchmark.measures]
    )
    handles = _dot_handles(benchmark if same_unit else None, bool(paper))
    figure, axes = panels(len(placed), 3, (2.6, 0.9 + 0.24 * len(rows)), narrow, bool(handles))
    for axis, (column, measures) in zip(axes, placed, strict=True):
        far = _far_teacher(data[(data["column"] == column) & data["measure"].isin([m.label for m in measures])])
        if far:
            axis.annotate(
                far,
                (1, rows.index("Teacher")),
                xycoords=axis.get_yaxis_transform(),
                ha="right",
                va="center",
                fontsize=8,
            )
        for number, measure in enumerate(measures):
            part = data[(data["column"] == column) & (data["measure"] == measure.label)]
            offset = 0.34 * (number / (len(measures) - 1) - 0.5) if len(measures) > 1 else 0.0
            for entry in part.to_dict("records"):
                look = shown[entry["row"]]
                if entry["row"] == "Teacher" and far:
                    continue
                axis.errorbar(
                    entry["mean"], rows.index(entry["row"]) + offset, xerr=entry["sd"] or None, marker=look.marker,
                    color=look.hex, markerfacecolor="white" if number else look.hex, markersize=5.5, elinewidth=1.1,
                )  # fmt: skip
        for place, row in enumerate(rows):
            known = [paper[row, column, m.published] for m in measures if (row, column, m.published) in paper]
            if known:
                axis.plot(known[0].value, place, zorder=5, **PAPER_TICK)
        axis.set(title=column if same_unit else f"{column}: {measures[0].label}", ylabel="")
        axis.set_xlabel("top-1 (%)" if same_unit else measures[0].title, fontsize=8)
        axis.set_yticks(range(len(rows)), rows)
        for label in axis.get_yticklabels():
            label.set_fontweight("bold" if label.get_text() == benchmark.reference else "normal")
        axis.set_ylim(len(rows) - 0.5, -0.5)
        axis.grid(axis="y", color="0.9", linewidth=0.7)
        axis.margins(x=0.08)
    return finish(figure, handles, bool(handles), 3)


def _far_teacher(part: pd.DataFrame) -> str:
    """ "73.4 →" where the teacher is so far from all students that one scale for both would leave theirs no room."""
    of_teacher = part["row"] == "Teacher"
    students, teachers = part["mean"][~of_teacher], part["mean"][of_teacher]
    if students.empty or teachers.empty:
        return ""
    span = max(students.max() - students.min(), 1.0)
    if teachers.max() > students.max() + 2 * span:
        return f"{teachers.max():.1f} →"
    return f"← {teachers.min():.1f}" if teachers.min() < students.min() - 2 * span else ""


def _dot_handles(benchmark: Benchmark | None, paper: bool) -> list[Line2D]:
    handles = []
    if benchmark and len(benchmark.measures) > 1:
        for number, measure in enumerate(benchmark.measures):
            face = "white" if number else "0.3"
            handles.append(
                Line2D(
                    [], [], linestyle="none", marker="o", color="0.3", markerfacecolor=face,
                    label=f"{measure.label} epoch",
                )
            )  # fmt: skip
    return [*handles, Line2D([], [], linestyle="none", label="paper", **PAPER_TICK)] if paper else handles


def _lines(
    data: pd.DataFrame, benchmark: Benchmark, rows: list[str], paper: Paper, shown: Mapping[str, Look], narrow: bool
) -> Figure:
    """The columns' numbers along x, a line for each row; the first measure on the left, the next on its right. The row
    that others are compared with is thicker."""
    data = data.assign(x=[float(str(column).rstrip(" %")) for column in data["column"]]).sort_values("x")
    ticks = sorted(set(data["x"]))
    rows = [row for row in rows if row in set(data["row"])]
    across = 3 if narrow else min(len(rows), 7)
    legend_lines = -(-len(rows) // across)
    figure, axes = panels(len(benchmark.measures), 2, (3.6, 2.9), narrow, legend_lines)
    handles: list[Line2D] = []
    for axis, measure in zip(axes, benchmark.measures, strict=True):
        handles = []
        for place, row in enumerate(rows):
            part = data[(data["measure"] == measure.label) & (data["row"] == row)]
            look, width = shown[row], 2.6 if row == benchmark.reference else 1.4
            style: dict[str, Any] = {"color": look.hex, "marker": look.marker, "markersize": 5, "linewidth": width}
            style |= {"linestyle": (0, DASHES[look.dash]) if DASHES[look.dash] else "-", "label": row}
            # bars of several lines at one place would cover each other
            shift = (place - (len(rows) - 1) / 2) * 0.006 * ((ticks[-1] - ticks[0]) or 1.0)
            axis.errorbar(part["x"] + shift, part["mean"], yerr=part["sd"], elinewidth=1.0, **style)
            handles.append(Line2D([], [], **style))
        for (row, column, name), known in paper.items():
            if name == measure.published and row in rows:
                axis.plot(float(column.rstrip(" %")), known.value, **PAPER_TICK)
        axis.set(xlabel=f"{benchmark.columns} (%)", ylabel="top-1 (%)", title=f"{measure.label} epoch")
        axis.set_xticks(ticks)
        if len(ticks) == 1:  # else the axis is as wide as the shifts
            axis.set_xlim(ticks[0] - 0.06, ticks[0] + 0.06)
        if not narrow:
            axis.label_outer()
    return finish(figure, handles, legend_lines, across)


def _embedding(layouts: Layouts, narrow: bool) -> Figure:
    """Layouts side by side, or below each other: a class has its digit as marker besides its colour."""
    figure, axes = panels(len(layouts), len(layouts), (3.1, 3.2), narrow, 0, sharey=False)
    palette = sns.color_palette("colorblind", 10)
    for axis, (title, (layout, labels, silhouette)) in zip(axes, layouts.items(), strict=True):
        _classes(axis, layout, labels, palette)
        axis.set(title=f"{title}: silhouette {silhouette:.3f}", xticks=[], yticks=[])
        axis.spines[:].set_visible(False)
    figure.tight_layout()
    return figure


def _classes(axis: Axes, layout: np.ndarray, labels: np.ndarray, palette: list[tuple[float, float, float]]) -> None:
    for label in sorted(set(labels.tolist())):
        points = layout[labels == label]
        color = palette[label % len(palette)]
        axis.scatter(points[:, 0], points[:, 1], s=22, color=color, marker=f"${label}$", linewidths=0.2)
