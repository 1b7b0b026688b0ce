"""Accuracy against all seconds spent: the student's, and those of the teacher and head that it was taught by."""

import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd

COLUMNS = ("benchmark", "row", "column", "epoch", "seconds", "top1", "seeds", "before")


class Spent(NamedTuple):
    """``curves``: see spent_curves. ``damaged``: finished runs whose metrics.jsonl cannot be read, and are left out."""

    curves: pd.DataFrame
    damaged: list[str]


def spent_curves(frame: pd.DataFrame, runs: Path, tuning: Mapping[str, float] | None = None) -> Spent:
    """A curve for each method of each column: benchmark, row, column, epoch (of all stages), seconds, top1, seeds,
    before.

    seconds: training and evaluation up to that epoch, over whatever views the method takes, and ``before`` it all that
    its teacher and head took, and what ``tuning`` says of its row. A teacher whose weights were given has cost nothing
    here. Means over the finished seeds. frame: the report's, whole, as it has the seconds of teachers and heads too."""
    known = frame[frame["state"] == "finished"] if len(frame) else frame
    if known.empty:
        return Spent(pd.DataFrame(columns=COLUMNS), [])
    took = dict(zip(known["id"], known["seconds"], strict=True))
    students = known[(known["role"] == "student") & (known["benchmark"] != "")]
    rows: list[tuple[object, ...]] = []
    damaged: dict[str, None] = {}
    for (benchmark, row, column), group in students.groupby(["benchmark", "row", "column"], sort=False):
        curves = []
        for run, teacher, head in zip(group["id"], group["teacher"], group["head"], strict=True):
            before = took.get(teacher, 0.0) + took.get(head, 0.0) + (tuning or {}).get(str(row), 0.0)
            curve = _curve(runs / run / "metrics.jsonl")
            if len(curve):
                curves.append(np.hstack([curve + np.array([0, before, 0]), np.full((len(curve), 1), before)]))
            else:
                damaged[run] = None
        if not curves:
            continue
        length = min(map(len, curves))
        mean = np.mean([curve[:length] for curve in curves], axis=0)
        place = (benchmark, row, column)
        rows += [(*place, int(epoch), s, top1, len(curves), before) for epoch, s, top1, before in mean.tolist()]
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
