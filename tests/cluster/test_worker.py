"""Tests the files of a worker that cannot finish its run. The kind of failure decides whether the run is started
again."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from submitit.core.utils import UncompletedJobError

from benchmarks.dispatch.retries import retry
from benchmarks.dispatch.slurm_jobs import _requeue
from benchmarks.dispatch.worker import ProgressFile, execute, read_standing
from sskd.console.signals import StopSignal
from sskd.errors import UserError
from sskd.runs.run_folder import RunFolder
from sskd.training.run import StepEvent
from tests import small
from tests.cluster.holding import Holds, job_in

SPEC = small.spec(small.teacher())


def failing(error: Exception) -> Any:
    def action(*_: object) -> None:
        raise error

    return action


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        (UserError("no such file"), "input"),
        (torch.OutOfMemoryError("CUDA out of memory"), "exception"),
        (ValueError("a fault of ours"), "exception"),
    ],
)
def test_the_kind_of_a_failure(error: Exception, kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("benchmarks.dispatch.worker.train_in_processes", failing(error))
    failure = execute(SPEC, job_in(tmp_path, SPEC), StopSignal())
    assert failure is not None
    assert failure.kind == kind
    failed = json.loads((tmp_path / "runs" / SPEC.id / "failed.json").read_text())
    assert failed["kind"] == kind
    assert str(error) in failed["message"]
    assert any(str(error) in line for line in failed["last_lines"])


def test_a_run_that_another_has_keeps_its_files(tmp_path: Path, holds: Holds) -> None:
    folder = RunFolder(tmp_path / "runs", SPEC)
    holds(folder.lock)
    failure = execute(SPEC, job_in(tmp_path, SPEC), StopSignal())
    assert failure is not None
    assert failure.kind == "held"
    assert [file.name for file in folder.path.iterdir()] == ["train.lock"]


@pytest.mark.parametrize("change", ["", "top1", "time", "cores"])
def test_how_far_a_run_says_it_is(change: str, tmp_path: Path) -> None:
    """Not if that was before it was started, or cannot be read."""
    ProgressFile(tmp_path, "17", 2)(StepEvent("main", 2, 4, 5, 10, 10.0, None))
    data = json.loads((tmp_path / "progress.json").read_text())
    assert data["job"] == "17"
    if change:
        (tmp_path / "progress.json").write_text(json.dumps(data | {change: [change]}))
    standing = read_standing(tmp_path, data["time"] - 1)
    assert (standing and standing[:3]) == (None if change else ("main", 2, 4))
    assert read_standing(tmp_path, data["time"] + 1) is None
    (tmp_path / "progress.json").write_text("{")
    assert read_standing(tmp_path) is None


def test_too_many_time_limits_are_the_end(tmp_path: Path) -> None:
    folder = RunFolder(tmp_path / "runs", SPEC)
    folder.create()
    with pytest.raises(SystemExit) as end:
        _requeue(folder, failing(UncompletedJobError("timed-out too many times")))
    assert end.value.code == 1
    assert retry(folder.path, 0, 9, "") == ""
    assert "timed-out too many times" in json.loads(folder.failure.read_text())["message"]
