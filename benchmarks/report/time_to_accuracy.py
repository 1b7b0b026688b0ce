"""Accuracy against total cost, in seconds or multiply-adds: the student's, and that of its teacher and head.

Seconds are meaningful only if each run had its machine for itself.
"""

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from benchmarks.report.canvas import attempt, dashes, legend, panels
from benchmarks.report.escaping import markdown_text
from benchmarks.report.style import Style
from sskd.formatting import duration, markdown_table

MARK = "KD"  # the method whose final accuracy the others should reach
SECONDS, COUNTED = "seconds", "multiply_adds"
WORDS = {SECONDS: "seconds", COUNTED: "multiply-adds"}
WHAT = (
    "Total cost of a method, run sequentially: the student with all its views, and its teacher and head. "
    "Weights that came from a file cost nothing. The cost of tuning the settings is not included."
)
HOW = {
    SECONDS: "According to the results, no run shared its machine.",
    COUNTED: "The cost is given in multiply-adds of convolutions and linear layers in training steps, because runs "
    "shared their machine or were not timed; other operations of a method are not counted.",
}
POWERS = ((1e18, "E"), (1e15, "P"), (1e12, "T"), (1e9, "G"), (0.0, ""))
UNITS = {  # of the figure: least cost, size and name of the unit
    SECONDS: ((2 * 3600, 3600, "hours"), (120, 60, "minutes"), (0, 1, "seconds")),
    COUNTED: [(size, size or 1.0, f"{letter} multiply-adds".strip()) for size, letter in POWERS],
}
COLUMNS = (
    *("benchmark", "row", "column", "epoch", "seconds", "top1", "seeds", "before"),
    *("multiply_adds", "before_multiply_adds"),
)


class TimeToAccuracy(NamedTuple):
    """Accuracy against cost in a report. curves: from cost_curves. table: from cost_table. unit: SECONDS or COUNTED.
    figure: its PNG. notes: meaning of the numbers, and omissions."""

    curves: pd.DataFrame
    table: pd.DataFrame
    unit: str
    figure: Path | None
    notes: list[str]


def runs_sharing_a_machine(frame: pd.DataFrame) -> set[str]:
    """Returns the ids of finished runs that shared their machine with another run of the frame, according to their
    hosts, end times and durations. Other runs or jobs on the machine are not recorded."""
    names = ["id", "host", "finished", "seconds"]
    if not set(names) <= set(frame):
        return set()
    known = frame[frame["state"] == "finished"].drop_duplicates("id")[names].dropna(subset=["finished", "seconds"])
    known = known.assign(end=pd.to_datetime(known["finished"], utc=True, errors="coerce", format="ISO8601"))
    known = known[known["end"].notna() & (known["seconds"] > 0)]
    shared: set[str] = set()
    for _, group in known.groupby("host", sort=False, dropna=False):
        end = group["end"].map(pd.Timestamp.timestamp).to_numpy(dtype=float)
        took, ids = group["seconds"].to_numpy(dtype=float), group["id"].to_numpy()
        latest = (-math.inf, 0.0, "")  # latest end of the runs that started earlier, its seconds and id
        for place in np.argsort(end - took, kind="stable"):
            overlap = min(latest[0], end[place]) - (end[place] - took[place])
            if overlap > min(1.0, 0.5 * took[place], 0.5 * latest[1]):  # end times are recorded in whole seconds
                shared |= {ids[place], latest[2]}
            if end[place] > latest[0]:
                latest = (end[place], took[place], ids[place])
    return shared


def cost_curves(
    frame: pd.DataFrame, epochs: Mapping[str, np.ndarray], work: Mapping[str, float] | None = None
) -> tuple[pd.DataFrame, list[str]]:
    """Returns a curve per method and column, and the finished runs that are omitted because their metrics.jsonl cannot
    be read.

    Columns: benchmark, row, column, epoch (over all stages), seconds, top1, seeds, before, multiply_adds,
    before_multiply_adds; means over the finished seeds. seconds: training and evaluation up to that epoch; it includes
    ``before``, the seconds of teacher and head. Given weights cost nothing. frame: the whole report's frame, including
    teachers and heads. epochs: of every run by id (frame.read_epochs). work: multiply-adds of every run's training by
    id; nan without it.
    """
    known = frame[frame["state"] == "finished"]
    if known.empty:
        return pd.DataFrame(columns=COLUMNS), []
    took = dict(zip(known["id"], known["seconds"], strict=True))
    work = dict.fromkeys(known["id"], math.nan) | dict(work or {})
    students = known[(known["role"] == "student") & (known["benchmark"] != "")]
    damaged = [run for run in dict.fromkeys(students["id"]) if not len(epochs[run])]
    rows: list[tuple[object, ...]] = []
    for place, group in students[~students["id"].isin(damaged)].groupby(["benchmark", "row", "column"], sort=False):
        curves = []
        for run in group.to_dict("records"):
            curve = epochs[run["id"]][:, [0, 2, 3]]
            before, counted = (sum(of.get(run[who], 0.0) for who in ("teacher", "head")) for of in (took, work))
            adds = counted + work[run["id"]] / run.get("epochs", math.nan) * curve[:, :1]
            ones = np.ones((len(curve), 1))
            curves.append(np.hstack([curve + np.array([0, before, 0]), before * ones, adds, counted * ones]))
        length = min(map(len, curves))
        mean = np.mean([curve[:length] for curve in curves], axis=0)
        rows += [(*place, int(epoch), s, top1, len(curves), *more) for epoch, s, top1, *more in mean.tolist()]
    return pd.DataFrame(rows, columns=COLUMNS), damaged


def amount(value: float, unit: str) -> str:
    """Formats a cost: "4 min 10 s", or "1.32 P" multiply-adds; a dash for nan."""
    if math.isnan(value):
        return "-"
    if unit == SECONDS:
        return duration(value)
    size, letter = next((size, letter) for size, letter in POWERS if value >= size)
    return f"{value / (size or 1.0):.3g} {letter}".strip()


def cost_table(curves: pd.DataFrame, unit: str) -> pd.DataFrame:
    """Returns a row per curve of cost_curves: benchmark, column, row, seeds, cost (total, in ``unit``), before (of
    teacher and head), top1 (at the end), reaches (the cost at which it first reaches KD's final accuracy; nan if it
    never does, or KD has no run)."""
    place, cell = ["benchmark", "column"], ["benchmark", "column", "row"]
    ends = curves.drop_duplicates(cell, keep="last")
    marks = ends[ends["row"] == MARK].set_index(place)["top1"].rename("mark")
    there = curves[curves["top1"] >= curves.join(marks, on=place)["mark"]].drop_duplicates(cell)
    table = ends.assign(cost=ends[unit], before=ends["before" if unit == SECONDS else "before_multiply_adds"])
    table = table.join(there.set_index(cell)[unit].rename("reaches"), on=cell)
    return table[[*cell, "seeds", "cost", "before", "top1", "reaches"]].reset_index(drop=True)


def make_time_to_accuracy(
    frame: pd.DataFrame,
    epochs: Mapping[str, np.ndarray],
    work: Mapping[str, float],
    unit: str,
    folder: Path,
    styles: Mapping[str, Style],
) -> TimeToAccuracy:
    """Returns the report's part on cost. Draws spent.png and spent.pdf into ``folder`` if there is a curve with a known
    cost in ``unit``. Other arguments: see cost_curves."""
    curves, damaged = cost_curves(frame, epochs, work)
    known = curves[curves[unit].notna()]
    figure, trouble = attempt(folder / "spent", lambda: _draw(known, styles, unit))
    lost = [f"Left out, because their metrics.jsonl cannot be read: {', '.join(damaged)}."] if damaged else []
    notes = [f"{WHAT} {HOW[unit]} Means over seeds.", *trouble, *lost]
    return TimeToAccuracy(curves, cost_table(known, unit), unit, figure, notes)


def _draw(curves: pd.DataFrame, styles: Mapping[str, Style], unit: str) -> Figure | None:
    """Draws a panel per benchmark and column, a line per method. A line starts at the cost of teacher and head; its dot
    is the end of training."""
    if curves.empty:
        return None
    groups, seen = {}, set[str]()
    for place, group in curves.groupby(["benchmark", "column"], sort=False):
        what = group[["row", "epoch", unit, "top1"]].to_csv(index=False)
        if what not in seen:  # benchmarks can share runs
            groups[place] = group
        seen.add(what)
    several = len({benchmark for benchmark, _ in groups}) > 1
    rows = list(dict.fromkeys(map(str, curves["row"])))
    figure, axes = panels(len(groups), 2, (3.6, 2.9), sharey=True)
    most = curves[unit].max()
    size, name = next((size, name) for least, size, name in UNITS[unit] if most >= least)
    for axis, ((benchmark, column), group) in zip(axes, groups.items(), strict=True):
        for row, curve in group.groupby("row", sort=False):
            style = styles[str(row)]
            line: dict[str, Any] = {"color": style.hex, "linewidth": 1.4, "linestyle": dashes(style)}
            axis.plot(curve[unit] / size, curve["top1"], **line)
            end = curve.iloc[-1]
            axis.plot(end[unit] / size, end["top1"], color=style.hex, marker=style.marker, markersize=6)
        title = f"{str(benchmark).replace('_', ' ')}: {column}" if several else column
        axis.set(xlabel=f"{name}, all that it took", ylabel="top-1 (%)", title=title)
        axis.set_xlim(left=0)
        axis.grid(axis="y", color="0.9", linewidth=0.7)
    return legend(figure, rows, styles)


def time_to_accuracy_markdown(time_to_accuracy: TimeToAccuracy) -> str:
    """Returns the table as Markdown, with its notes."""
    words, (what, *notes) = WORDS[time_to_accuracy.unit], time_to_accuracy.notes
    head = ["benchmark", "column", "method", "seeds", f"all {words}", "teacher and head", "last top-1"]
    rows = []
    for entry in time_to_accuracy.table.to_dict("records"):
        cells = [entry["benchmark"], entry["column"], entry["row"], str(entry["seeds"])]
        cells += [amount(entry[name], time_to_accuracy.unit) for name in ("cost", "before")]
        cells += [f"{entry['top1']:.2f}", amount(entry["reaches"], time_to_accuracy.unit)]
        rows.append([*map(markdown_text, cells)])
    parts = [f"## Accuracy against total {words}\n", f"{what[:-1]}; the curves are in spent.csv and spent.pdf.\n"]
    parts += [markdown_table([*head, f"reaches {MARK}'s last after"], rows)]
    return "\n".join([*parts, *(f"{markdown_text(note)}\n" for note in notes)])
