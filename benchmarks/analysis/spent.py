"""Accuracy against all seconds spent: the student's, and those of the teacher and head that it was taught by."""

import json
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pandas as pd


def spent_curves(frame: pd.DataFrame, runs: Path, tuning: Mapping[str, float] | None = None) -> pd.DataFrame:
    """A curve for each method of each column: benchmark, row, column, epoch (of all stages), seconds, top1, seeds.

    seconds: training and evaluation up to that epoch, over whatever views the method takes, and before it all that its
    teacher and head took, and what ``tuning`` says of its row. A teacher whose weights were given has cost nothing
    here. Means over the finished seeds. frame: the report's, whole, as it has the seconds of teachers and heads too."""
    names = ["benchmark", "row", "column", "epoch", "seconds", "top1", "seeds"]
    known = frame[frame["state"] == "finished"] if len(frame) else frame
    if known.empty:
        return pd.DataFrame(columns=names)
    took = dict(zip(known["id"], known["seconds"], strict=True))
    students = known[(known["role"] == "student") & (known["benchmark"] != "")]
    rows: list[tuple[object, ...]] = []
    for (benchmark, row, column), group in students.groupby(["benchmark", "row", "column"], sort=False):
        curves = []
        for run, teacher, head in zip(group["id"], group["teacher"], group["head"], strict=True):
            before = took.get(teacher, 0.0) + took.get(head, 0.0) + (tuning or {}).get(str(row), 0.0)
            curve = _curve(runs / run / "metrics.jsonl")
            if len(curve):
                curves.append(curve + np.array([0, before, 0]))
        if not curves:
            continue
        length = min(map(len, curves))
        mean = np.mean([curve[:length] for curve in curves], axis=0)
        rows += [(benchmark, row, column, int(epoch), s, top1, len(curves)) for epoch, s, top1 in mean.tolist()]
    return pd.DataFrame(rows, columns=names)


def _curve(metrics: Path) -> np.ndarray:
    """(epoch of all stages, seconds so far, test accuracy) of the epochs that have one: (n, 3)."""
    points, seconds = [], 0.0
    try:
        lines = metrics.read_text().splitlines()
    except OSError:
        return np.empty((0, 3))
    for number, line in enumerate(lines, start=1):
        try:
            row = json.loads(line)
        except ValueError:  # cut off by a crash
            break
        seconds += row.get("seconds", 0.0) + row.get("evaluation_seconds", 0.0)
        if "test_top1" in row:
            points.append((number, seconds, float(row["test_top1"])))
    return np.array(points).reshape(-1, 3)
