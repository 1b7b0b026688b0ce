"""Accuracy against all that was spent, as a table and a figure: what a point of accuracy costs with each method."""

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import pandas as pd
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from benchmarks.report.canvas import Drawn, attempt, dashes, finish, panels, save, shortened, style
from benchmarks.report.escaping import markdown_text
from benchmarks.report.style import Look
from benchmarks.report.time_to_accuracy import Spent
from benchmarks.tables.benchmark import BENCHMARKS
from sskd.formatting import duration

MARK = "KD"  # whose last accuracy the others' costs are measured to
SECONDS, COUNTED = "seconds", "multiply_adds"
WORDS = {SECONDS: "seconds", COUNTED: "multiply-adds"}
WHAT = (
    "All that a method took, one run after the other: the student with all its views, and its teacher and head before "
    "it. A teacher whose weights came from a file has cost nothing here. Settings are those of the runs: what their "
    "tuning took is not known."
)
HOW = {
    SECONDS: "Each run had its machine for itself, as far as the results tell.",
    COUNTED: "Multiply-adds of convolutions and linear layers in training steps are counted and not seconds, since "
    "runs shared their machine, or were not timed; what a method computes besides is not counted.",
}
TIMES = ((2 * 3600, 3600, "hours"), (120, 60, "minutes"), (0, 1, "seconds"))  # from so many seconds on
POWERS = ((1e18, "E"), (1e15, "P"), (1e12, "T"), (1e9, "G"), (0.0, ""))


class Spending(NamedTuple):
    """``table``: see spending_table. ``unit``: SECONDS or COUNTED. ``damaged``: finished runs whose curve cannot be
    read. ``notes``: why there is no figure, where drawing failed."""

    table: pd.DataFrame
    unit: str
    figure: Drawn | None
    damaged: list[str]
    notes: list[str]

    @property
    def said(self) -> str:
        """What the numbers are."""
        return f"{WHAT} {HOW[self.unit]}"


def amount(value: float, unit: str) -> str:
    """A cost as a person reads it: "4 min 10 s", or "1.32 P" multiply-adds; a dash for nan."""
    if math.isnan(value):
        return "-"
    if unit == SECONDS:
        return duration(value)
    size, letter = next((size, letter) for size, letter in POWERS if value >= size)
    return f"{value / (size or 1.0):.3g} {letter}".strip()


def spending_table(curves: pd.DataFrame, unit: str) -> pd.DataFrame:
    """A row for each curve of spent.spent_curves: benchmark, column, row, seeds, cost (all, at its end, in ``unit``),
    before (that of teacher and head), top1 (at its end), reaches (the cost at which it first has what KD has at its
    end; nan where it never does, or KD has no run)."""
    names = ["benchmark", "column", "row", "seeds", "cost", "before", "top1", "reaches"]
    ends = {key: group.iloc[-1] for key, group in curves.groupby(["benchmark", "row", "column"], sort=False)}
    rows = []
    for (benchmark, row, column), group in curves.groupby(["benchmark", "row", "column"], sort=False):
        end, mark = group.iloc[-1], ends.get((benchmark, MARK, column))
        there = group[group["top1"] >= mark["top1"]] if mark is not None else group[:0]
        reaches = float(there[unit].iloc[0]) if len(there) else float("nan")
        before = end["before" if unit == SECONDS else "before_multiply_adds"]
        first = (benchmark, column, row, int(end["seeds"]), float(end[unit]), float(before))
        rows.append((*first, float(end["top1"]), reaches))
    return pd.DataFrame(rows, columns=names)


def spending(spent: Spent, folder: Path, shown: Mapping[str, Look], unit: str) -> Spending:
    """Writes spent.png and spent.pdf into ``folder`` where there is a curve whose cost is known in ``unit``."""
    curves = spent.curves[spent.curves[unit].notna()]
    path = folder / "spent"
    figure, notes = attempt(path, lambda: _draw(curves, shown, path, unit)) if len(curves) else (None, [])
    return Spending(spending_table(curves, unit), unit, figure, spent.damaged, notes)


def _draw(curves: pd.DataFrame, shown: Mapping[str, Look], path: Path, unit: str) -> Drawn:
    with style():
        wide, narrow = (_figure(curves, shown, kind, unit) for kind in (False, True))
        return save(wide, narrow, path)


def _figure(curves: pd.DataFrame, shown: Mapping[str, Look], narrow: bool, unit: str) -> Figure:
    """A panel for each benchmark's column, a line for each method, from its teacher's and head's end on; the dot is
    where its training ends."""
    groups, seen = {}, set[str]()
    for place, group in curves.groupby(["benchmark", "column"], sort=False):
        what = group[["row", "epoch", unit, "top1"]].to_csv(index=False)
        if what not in seen:  # benchmarks may share runs
            groups[place] = group
        seen.add(what)
    rows = list(dict.fromkeys(map(str, curves["row"])))
    handles = [
        Line2D([], [], color=look.hex, marker=look.marker, linestyle=dashes(look), label=shortened(row))
        for row, look in ((row, shown[row]) for row in rows)
    ]
    figure, axes = panels(len(groups), 2, (3.6, 2.9), narrow, [shortened(row) for row in rows])
    most, size = curves[unit].max(), 1.0
    if unit == SECONDS:
        size, name = next((size, name) for least, size, name in TIMES if most >= least)
    else:
        size, name = next((size or 1.0, f"{letter} multiply-adds".strip()) for size, letter in POWERS if most >= size)
    for axis, ((benchmark, column), group) in zip(axes, groups.items(), strict=True):
        for row, curve in group.groupby("row", sort=False):
            look = shown[str(row)]
            line: dict[str, Any] = {"color": look.hex, "linewidth": 1.4, "linestyle": dashes(look)}
            axis.plot(curve[unit] / size, curve["top1"], **line)
            end = curve.iloc[-1]
            axis.plot(end[unit] / size, end["top1"], color=look.hex, marker=look.marker, markersize=6)
        axis.set(xlabel=f"{name}, all that it took", ylabel="top-1 (%)", title=panel_title(str(benchmark), str(column)))
        axis.set_xlim(left=0)
        axis.grid(axis="y", color="0.9", linewidth=0.7)
    return finish(figure, handles)


def panel_title(benchmark: str, column: str) -> str:
    return column if benchmark == "comparison" else f"{benchmark.replace('_', ' ')}: {column}"


def spending_markdown(spending: Spending) -> str:
    """The table as Markdown, and what it does not hold."""
    words = WORDS[spending.unit]
    lines = [
        f"## Accuracy against all {words} spent\n",
        f"{spending.said} Means over seeds; the curves are in spent.csv and spent.pdf.\n",
        f"| benchmark | column | method | seeds | all {words} | teacher and head | last top-1 | "
        f"reaches {MARK}'s last after |",
        "| --- | --- | --- | --- | --- | --- | --- | --- |",
    ]
    for entry in spending.table.to_dict("records"):
        cells = [BENCHMARKS[entry["benchmark"]].id, entry["column"], entry["row"], str(entry["seeds"])]
        cells += [amount(entry[name], spending.unit) for name in ("cost", "before")]
        cells += [f"{entry['top1']:.2f}", amount(entry["reaches"], spending.unit)]
        lines.append("| " + " | ".join(map(markdown_text, cells)) + " |")
    lines += [f"\n{markdown_text(note)}" for note in spending.notes]
    if spending.damaged:
        lines.append(f"\n{left_out(spending.damaged)}")
    return "\n".join(lines) + "\n"


def left_out(damaged: list[str]) -> str:
    return f"Left out, as their metrics.jsonl cannot be read: {', '.join(damaged)}."
