"""Accuracy against all seconds spent, as a table and a figure: what a point of accuracy costs with each method."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import matplotlib.pyplot as plt
import pandas as pd
import seaborn as sns
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from benchmarks.analysis.spent import Spent
from benchmarks.report.figures import STYLE, Drawn, finish, panels, save
from benchmarks.report.look import DASHES, Look
from benchmarks.tables.benchmark import BENCHMARKS
from sskd.training.words import duration

MARK = "KD"  # whose last accuracy the others' times are measured to
WHAT = (
    "All that a method took, one run after the other: the student with all its views, and its teacher and head before "
    "it. A teacher whose weights came from a file has cost nothing here. Settings are the published ones "
    "where a method has such, else those that it was given: what their tuning took is not known. Seconds are those of "
    "the runs as they went: what shared its cores or its GPU with other work took longer."
)
UNITS = ((2 * 3600, 3600, "hours"), (120, 60, "minutes"), (0, 1, "seconds"))  # from so many seconds on


class Spending(NamedTuple):
    """``table``: see spending_table. ``damaged``: finished runs whose curve cannot be read."""

    table: pd.DataFrame
    figure: Drawn | None
    damaged: list[str]


def spending_table(curves: pd.DataFrame) -> pd.DataFrame:
    """A row for each curve of spent.spent_curves: benchmark, column, row, seeds, seconds (all, at its end), before
    (those of teacher and head), top1 (at its end), reaches (seconds until it first has what KD has at its end; nan
    where it never does, or KD has no run)."""
    names = ["benchmark", "column", "row", "seeds", "seconds", "before", "top1", "reaches"]
    ends = {key: group.iloc[-1] for key, group in curves.groupby(["benchmark", "row", "column"], sort=False)}
    rows = []
    for (benchmark, row, column), group in curves.groupby(["benchmark", "row", "column"], sort=False):
        end, mark = group.iloc[-1], ends.get((benchmark, MARK, column))
        there = group[group["top1"] >= mark["top1"]] if mark is not None else group[:0]
        reaches = float(there["seconds"].iloc[0]) if len(there) else float("nan")
        first = (benchmark, column, row, int(end["seeds"]), float(end["seconds"]), float(end["before"]))
        rows.append((*first, float(end["top1"]), reaches))
    return pd.DataFrame(rows, columns=names)


def spending(spent: Spent, folder: Path, shown: Mapping[str, Look]) -> Spending:
    """Writes spent.png and spent.pdf into ``folder`` where there is a curve."""
    figure = None
    if len(spent.curves):
        with plt.rc_context(STYLE), sns.axes_style("ticks", rc=STYLE):
            wide, narrow = (_figure(spent.curves, shown, kind) for kind in (False, True))
            figure = save(wide, narrow, folder / "spent")
    return Spending(spending_table(spent.curves), figure, spent.damaged)


def _figure(curves: pd.DataFrame, shown: Mapping[str, Look], narrow: bool) -> Figure:
    """A panel for each benchmark's column, a line for each method, from its teacher's and head's end on; the dot is
    where its training ends."""
    groups, seen = {}, set[str]()
    for place, group in curves.groupby(["benchmark", "column"], sort=False):
        what = group[["row", "epoch", "seconds", "top1"]].to_csv(index=False)
        if what not in seen:  # benchmarks may share runs
            groups[place] = group
        seen.add(what)
    rows = list(dict.fromkeys(map(str, curves["row"])))
    across = 3 if narrow else min(len(rows), 7)
    lines = -(-len(rows) // across)
    figure, axes = panels(len(groups), 2, (3.6, 2.9), narrow, lines)
    unit, name = next((size, name) for least, size, name in UNITS if curves["seconds"].max() >= least)
    for axis, ((benchmark, column), group) in zip(axes, groups.items(), strict=True):
        for row, curve in group.groupby("row", sort=False):
            look = shown[str(row)]
            style: dict[str, Any] = {"color": look.hex, "linewidth": 1.4, "linestyle": _dashes(look)}
            axis.plot(curve["seconds"] / unit, curve["top1"], **style)
            end = curve.iloc[-1]
            axis.plot(end["seconds"] / unit, end["top1"], color=look.hex, marker=look.marker, markersize=6)
        axis.set(xlabel=f"{name}, all that it took", ylabel="top-1 (%)", title=panel_title(str(benchmark), str(column)))
        axis.set_xlim(left=0)
        axis.grid(axis="y", color="0.9", linewidth=0.7)
    handles = [
        Line2D([], [], color=shown[row].hex, marker=shown[row].marker, linestyle=_dashes(shown[row]), label=row)
        for row in rows
    ]
    return finish(figure, handles, lines, across)


def panel_title(benchmark: str, column: str) -> str:
    return column if benchmark == "comparison" else f"{benchmark.replace('_', ' ')}: {column}"


def _dashes(look: Look) -> Any:
    return (0, DASHES[look.dash]) if DASHES[look.dash] else "-"


def spending_markdown(spending: Spending) -> str:
    """The table as Markdown, and what it does not hold."""
    lines = [
        "## Accuracy against all seconds spent\n",
        f"{WHAT} Means over seeds; the curves are in spent.csv and spent.pdf.\n",
        f"| benchmark | column | method | seeds | all | teacher and head | last top-1 | reaches {MARK}'s last after |",
        "| --- | --- | --- | --- | --- | --- | --- | --- |",
    ]
    for entry in spending.table.to_dict("records"):
        reaches = "-" if pd.isna(entry["reaches"]) else duration(entry["reaches"])
        cells = [BENCHMARKS[entry["benchmark"]].id, entry["column"], entry["row"], str(entry["seeds"])]
        cells += [duration(entry["seconds"]), duration(entry["before"]), f"{entry['top1']:.2f}", reaches]
        lines.append("| " + " | ".join(cells) + " |")
    if spending.damaged:
        lines.append(f"\n{left_out(spending.damaged)}")
    return "\n".join(lines) + "\n"


def left_out(damaged: list[str]) -> str:
    return f"Left out, as their metrics.jsonl cannot be read: {', '.join(damaged)}."
