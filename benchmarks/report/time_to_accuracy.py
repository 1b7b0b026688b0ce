"""Accuracy against all that was spent, in seconds and in multiply-adds: the student's, and what the teacher and head
took that it was taught by. Seconds tell what a method takes only where a run had its machine for itself.
"""

import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd

COLUMNS = (
    *("benchmark", "row", "column", "epoch", "seconds", "top1", "seeds", "before"),
    *("multiply_adds", "before_multiply_adds"),
)


class Spent(NamedTuple):
    """``curves``: see spent_curves. ``damaged``: finished runs whose metrics.jsonl cannot be read, and are left out."""

    curves: pd.DataFrame
    damaged: list[str]


def beside_others(frame: pd.DataFrame) -> set[str]:
    """The ids of the finished runs that shared their machine with another of the frame's, as their hosts, ends and
    seconds tell. Runs that other results have, or other work, may have been there too: nobody noted them."""
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
        latest = (-math.inf, 0.0, "")  # of those that began before: the last end, its seconds, its id
        for place in np.argsort(end - took, kind="stable"):
            overlap = min(latest[0], end[place]) - (end[place] - took[place])
            if overlap > min(1.0, 0.5 * took[place], 0.5 * latest[1]):  # ends are noted in whole seconds
                shared |= {ids[place], latest[2]}
            if end[place] > latest[0]:
                latest = (end[place], took[place], ids[place])
    return shared


def spent_curves(
    frame: pd.DataFrame,
    runs: Path,
    tuning: Mapping[str, float] | None = None,
    work: Mapping[str, float] | None = None,
) -> Spent:
    """A curve for each method of each column: benchmark, row, column, epoch (of all stages), seconds, top1, seeds,
    before, multiply_adds, before_multiply_adds. ``work``: multiply-adds of every run's training, by id; nan where it
    does not say.

    seconds: training and evaluation up to that epoch, over whatever views the method takes, and ``before`` it all that
    its teacher and head took, and what ``tuning`` says of its row. A teacher whose weights were given has cost nothing
    here. Means over the finished seeds. frame: the report's, whole, as it has the seconds of teachers and heads too."""
    known = frame[frame["state"] == "finished"] if len(frame) else frame
    if known.empty:
        return Spent(pd.DataFrame(columns=COLUMNS), [])
    took = dict(zip(known["id"], known["seconds"], strict=True))
    work = dict.fromkeys(known["id"], math.nan) | dict(work or {})
    students = known[(known["role"] == "student") & (known["benchmark"] != "")]
    rows: list[tuple[object, ...]] = []
    damaged: dict[str, None] = {}
    for (benchmark, row, column), group in students.groupby(["benchmark", "row", "column"], sort=False):
        curves = []
        epochs = group["epochs"] if "epochs" in group else [math.nan] * len(group)
        for run, teacher, head, of in zip(group["id"], group["teacher"], group["head"], epochs, strict=True):
            before = took.get(teacher, 0.0) + took.get(head, 0.0) + (tuning or {}).get(str(row), 0.0)
            counted = work.get(teacher, 0.0) + work.get(head, 0.0)
            curve = _curve(runs / run / "metrics.jsonl")
            if len(curve):
                adds = counted + work[run] / of * curve[:, :1]
                ones = np.ones((len(curve), 1))
                curves.append(np.hstack([curve + np.array([0, before, 0]), before * ones, adds, counted * ones]))
            else:
                damaged[run] = None
        if not curves:
            continue
        length = min(map(len, curves))
        mean = np.mean([curve[:length] for curve in curves], axis=0)
        place = (benchmark, row, column)
        rows += [(*place, int(epoch), s, top1, len(curves), *more) for epoch, s, top1, *more in mean.tolist()]
    return Spent(pd.DataFrame(rows, columns=COLUMNS), list(damaged))


def _curve(metrics: Path) -> np.ndarray:
    """(epoch of all stages, seconds so far, test accuracy) of the epochs that have one: (n, 3). None of them if any
    line but a last one that a crash cut off is damaged: its seconds would be missing in all that follow."""
    points, seconds = [], 0.0
    try:
        lines = metrics.read_text(encoding="utf-8").splitlines()
        for number, line in enumerate(lines, start=1):
            try:
                row = json.loads(line)
            except ValueError:
                if number == len(lines):
                    break
                raise
            seconds += row.get("seconds", 0.0) + row.get("evaluation_seconds", 0.0)
            if "test_top1" in row:
                points.append((float(number), seconds, float(row["test_top1"])))
    except (OSError, ValueError, TypeError, AttributeError, RecursionError):
        points = []
    if not all(math.isfinite(value) for point in points for value in point):
        points = []
    return np.array(points).reshape(-1, 3)
