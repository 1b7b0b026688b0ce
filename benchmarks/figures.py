"""Figures by seaborn, PNG and PDF: mean and deviation over seeds, the paper's value where it is known.

Readable in grey (every series has its own marker and line) and the same bytes for the same results.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import matplotlib

matplotlib.use("Agg")  # no display is needed, and none is opened

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from benchmarks.base import Benchmark, Measure
from benchmarks.gains import gains_by_year
from benchmarks.published import published
from sskd.folder import write_atomically

MARKERS = ("o", "s", "D", "^", "v", "P", "X", "*", "<", ">")
STYLE: dict[Any, Any] = {"font.size": 9, "axes.titlesize": 9, "axes.spines.top": False, "axes.spines.right": False}
STYLE |= {"pdf.fonttype": 42, "svg.hashsalt": "sskd", "figure.dpi": 100, "savefig.dpi": 160}
Layouts = Mapping[str, tuple[np.ndarray, np.ndarray, float]]  # title to layout (N, 2), labels (N,), silhouette


def draw(frame: pd.DataFrame, benchmark: Benchmark, folder: Path, layouts: Layouts | None = None) -> list[Path]:
    """Draws the benchmark's figure as <folder>/<id>.png and .pdf, and returns the paths; none while there is no number.

    frame: its rows of the report's frame. layouts: of an "embedding" figure, what is drawn.
    """
    with plt.rc_context(STYLE), sns.axes_style("ticks", rc=STYLE):
        if benchmark.figure == "embedding":
            figure = _embedding(layouts) if layouts else None
        elif benchmark.figure == "lines":
            figure = _lines(frame, benchmark)
        elif benchmark.figure == "years":
            figure = gains_by_year(frame)
        else:
            figure = _dots(frame, benchmark)
        if figure is None:
            return []
        paths = []
        # without dates and versions: the same results give the same file
        for suffix, metadata in (("png", {"Software": None}), ("pdf", {"CreationDate": None, "Producer": None})):
            path = folder / f"{benchmark.id}.{suffix}"
            write_atomically(
                path,
                lambda file, kind=suffix, data=metadata: figure.savefig(  # type: ignore[misc]
                    file, format=kind, metadata=data, bbox_inches="tight"
                ),
            )
            paths.append(path)
        plt.close(figure)
    return paths


def _long(frame: pd.DataFrame, benchmark: Benchmark) -> pd.DataFrame:
    """One row for each run and measure: row, column, measure, value."""
    parts = []
    for measure in benchmark.measures:
        if measure.name in frame:
            part = frame[["row", "column"]].assign(measure=measure.label, value=frame[measure.name])
            parts.append(part[part["value"].notna()])
    return pd.concat(parts, ignore_index=True) if parts else pd.DataFrame(columns=["row", "column", "measure", "value"])


def _dots(frame: pd.DataFrame, benchmark: Benchmark) -> Figure | None:
    """A panel for each column (or measure, where measures have units of their own), rows downwards."""
    data = _long(frame, benchmark)
    if data.empty:
        return None
    rows = list(dict.fromkeys(frame["row"]))
    same_unit = all(measure.published or "top-1" in measure.title for measure in benchmark.measures)
    columns = list(dict.fromkeys(frame["column"]))
    panels: list[tuple[str, tuple[Measure, ...]]] = (
        [(str(column), benchmark.measures) for column in columns]
        if same_unit
        else [(str(column), (measure,)) for column in columns for measure in benchmark.measures]
    )
    across = min(3, len(panels))
    down = -(-len(panels) // across)
    figure, axes = plt.subplots(
        down, across, figsize=(1.0 + 2.6 * across, down * (0.9 + 0.24 * len(rows))), sharey=True, squeeze=False
    )
    paper = published(benchmark.id)
    drawn_paper = False
    for axis, (column, measures) in zip(axes.flat, panels, strict=False):
        labels = [measure.label for measure in measures]
        part = data[(data["column"] == column) & data["measure"].isin(labels)]
        if not part.empty:
            sns.pointplot(
                part, x="value", y="row", order=rows, hue="measure", hue_order=labels, ax=axis, legend=False,
                errorbar="sd", linestyle="none", markers=list(MARKERS[: len(labels)]), markersize=4.5,
                dodge=0.42 if len(labels) > 1 else False, palette=["black", "0.55"][: len(labels)],
                err_kws={"linewidth": 1},
            )  # fmt: skip
        for place, row in enumerate(rows):
            known = [paper[row, column, m.published] for m in measures if (row, column, m.published) in paper]
            if known:
                axis.plot(
                    known[0].value, place, marker="|", color="tab:red", markersize=11, markeredgewidth=2, zorder=5
                )
                drawn_paper = True
        axis.set(title=column if same_unit else f"{column}: {measures[0].label}", ylabel="")
        axis.set_xlabel("top-1 (%)" if same_unit else measures[0].title, fontsize=8)
        axis.set_yticks(range(len(rows)), rows)
        axis.set_ylim(len(rows) - 0.5, -0.5)
        axis.grid(axis="y", color="0.9", linewidth=0.7)
    for axis in axes.flat[len(panels) :]:
        axis.remove()
    _legend(figure, benchmark if same_unit else None, drawn_paper)
    figure.tight_layout()
    return figure


def _legend(figure: Figure, benchmark: Benchmark | None, paper: bool) -> None:
    handles = []
    if benchmark and len(benchmark.measures) > 1:
        handles += [
            Line2D([], [], linestyle="none", marker=marker, color=color, label=f"{measure.label} epoch")
            for measure, marker, color in zip(benchmark.measures, MARKERS, ("black", "0.55"), strict=False)
        ]
    if paper:
        handles.append(
            Line2D(
                [], [], linestyle="none", marker="|", color="tab:red", markersize=11, markeredgewidth=2, label="paper"
            )
        )
    if handles:
        figure.legend(handles=handles, loc="lower center", bbox_to_anchor=(0.5, 1.0), ncols=3, frameon=False)


def _lines(frame: pd.DataFrame, benchmark: Benchmark) -> Figure | None:
    """The columns' numbers along x, a line for each row; the first measure on the left, the next on its right."""
    data = _long(frame, benchmark)
    if data.empty:
        return None
    rows = list(dict.fromkeys(frame["row"]))
    data["x"] = [float(str(column).rstrip(" %")) for column in data["column"]]
    figure, axes = plt.subplots(
        1, len(benchmark.measures), figsize=(3.9 * len(benchmark.measures), 3.0), sharey=True, squeeze=False
    )
    ticks = sorted(set(data["x"]))
    paper = published(benchmark.id)
    for axis, measure in zip(axes.flat, benchmark.measures, strict=True):
        sns.lineplot(
            data[data["measure"] == measure.label], x="x", y="value", hue="row", style="row", hue_order=rows,
            style_order=rows,
            markers=list(MARKERS[: len(rows)]), dashes=True, errorbar="sd", err_style="bars", ax=axis,
            palette=sns.color_palette("colorblind", len(rows)), legend="brief" if axis is axes.flat[-1] else False,
        )  # fmt: skip
        for (row, column, name), known in paper.items():
            if name == measure.published and row in rows:
                axis.plot(float(column.rstrip(" %")), known.value, marker="|", color="tab:red", markersize=11)
        axis.set(xlabel=f"{benchmark.columns} (%)", ylabel="top-1 (%)", title=f"{measure.label} epoch")
        axis.set_xticks(ticks)
    if axes.flat[-1].get_legend():
        sns.move_legend(axes.flat[-1], "center left", bbox_to_anchor=(1.0, 0.5), title=None, frameon=False)
    figure.tight_layout()
    return figure


def _embedding(layouts: Layouts) -> Figure:
    """Layouts side by side: a class has its digit as marker besides its colour."""
    figure, axes = plt.subplots(1, len(layouts), figsize=(3.1 * len(layouts), 3.2), squeeze=False)
    palette = sns.color_palette("colorblind", 10)
    for axis, (title, (layout, labels, silhouette)) in zip(axes.flat, layouts.items(), strict=True):
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
