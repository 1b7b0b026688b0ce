"""Accuracy against all seconds, by hand."""

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from benchmarks.analysis.frame import read_epochs
from benchmarks.report.time_to_accuracy import amount, cost_curves, cost_table, runs_sharing_a_machine


def metrics(runs: Path, run: str, rows: list[dict[str, float]]) -> None:
    (runs / run).mkdir()
    (runs / run / "metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows) + "{")


def epochs_in(runs: Path) -> dict[str, np.ndarray]:
    return {folder.name: read_epochs(folder / "metrics.jsonl") for folder in runs.iterdir()}


def run(name: str, role: str = "student", **more: object) -> dict[str, object]:
    """A row of the report's frame: a finished run of no table, which nothing taught."""
    nothing = dict.fromkeys(("benchmark", "row", "teacher", "head"), "")
    return {"id": name, "role": role, "state": "finished", "column": "a/b", "seconds": 0.0} | nothing | more


def students(*names: str, **more: object) -> list[dict[str, object]]:
    return [run(name, **{"benchmark": "comparison", "row": "SSKD"} | more) for name in names]  # type: ignore[arg-type]


def test_a_methods_curve_begins_after_its_teacher_and_head(tmp_path: Path) -> None:
    """Seeds of 10 + 1 and 12 + 1 seconds an epoch; an initial stage of 5 without a test; teacher 100, head 50."""
    for seed, seconds in enumerate((10.0, 12.0)):
        step = {"seconds": seconds, "evaluation_seconds": 1.0}
        rows = [{"seconds": 5.0}, step | {"test_top1": 40.0 + seed}, step | {"test_top1": 60.0 + seed}]
        metrics(tmp_path, f"s{seed}", rows)
    taught = {"teacher": "t", "head": "h"}
    rows = [*students("s0", "s1", **taught), *students("s2", state="failed", **taught)]
    frame = pd.DataFrame([*rows, run("t", "teacher", seconds=100.0), run("h", "head", seconds=50.0)])
    curve, _ = cost_curves(frame, epochs_in(tmp_path))
    assert curve["epoch"].tolist() == [2, 3]
    assert curve["seconds"].tolist() == [150 + 5 + 12, 150 + 5 + 24]
    assert curve["top1"].tolist() == [40.5, 60.5]
    assert curve["seeds"].tolist() == [2, 2]
    assert curve["before"].tolist() == [150, 150]
    given, _ = cost_curves(frame.assign(teacher="sha256 of a file", head=""), epochs_in(tmp_path))
    assert given["seconds"].tolist() == [17, 29]
    assert cost_curves(frame[:0], {})[0].empty


MINUTE = "2026-01-01T00:{:02d}:00+00:00"


@pytest.mark.parametrize(
    ("runs", "shared"),
    [
        ([("a", "vm", 10, 60), ("b", "vm", 11, 60)], set()),  # one after the other
        ([("a", "vm", 10, 60), ("b", "vm", 10, 60)], {"a", "b"}),
        ([("a", "vm", 10, 60), ("b", "other", 10, 60)], set()),
        ([("a", "vm", 50, 2400), ("b", "vm", 20, 60), ("c", "vm", 30, 60), ("d", "vm", 55, 60)], {"a", "b", "c"}),
        ([("a", "vm", 10, 60.5), ("b", "vm", 11, 60.5)], set()),  # ends are noted in whole seconds
        ([("a", "vm", 10, 0.6), ("b", "vm", 10, 0.6)], {"a", "b"}),
        ([("a", None, 10, 60), ("b", None, 10, 60)], {"a", "b"}),
        ([("a", "vm", 10, float("nan")), ("b", "vm", 10, 60)], set()),
    ],
)
def test_which_runs_shared_their_machine(runs: list[tuple[str, str, int, float]], shared: set[str]) -> None:
    rows = [
        {"id": name, "host": host, "finished": MINUTE.format(minute), "seconds": seconds, "state": "finished"}
        for name, host, minute, seconds in runs
    ]
    assert runs_sharing_a_machine(pd.DataFrame(rows)) == shared
    assert runs_sharing_a_machine(pd.DataFrame(rows).assign(finished="soon")) == set()
    assert runs_sharing_a_machine(pd.DataFrame(columns=["id"])) == set()


def test_multiply_adds_are_those_of_student_teacher_and_head(tmp_path: Path) -> None:
    metrics(tmp_path, "s", [{"seconds": 1.0, "test_top1": 40.0}, {"seconds": 1.0, "test_top1": 50.0}])
    rows = [*students("s", teacher="t", head="h", epochs=2), run("t", "teacher"), run("h", "head")]
    frame = pd.DataFrame(rows)
    curves, _ = cost_curves(frame, epochs_in(tmp_path), {"s": 10e12, "t": 3e12, "h": 1e12})
    assert curves["multiply_adds"].tolist() == [9e12, 14e12]
    assert curves["before_multiply_adds"].tolist() == [4e12, 4e12]
    table = cost_table(curves, "multiply_adds")
    assert table.loc[0, ["cost", "before"]].tolist() == [14e12, 4e12]
    amounts = [amount(value, "multiply_adds") for value in (14e12, 1.5e15, 0.0, float("nan"))]
    assert amounts == ["14 T", "1.5 P", "0", "-"]
    assert cost_curves(frame, epochs_in(tmp_path))[0]["multiply_adds"].isna().all()
