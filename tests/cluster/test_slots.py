"""One loop, several kinds of slots: the same numbers in one process and side by side, whatever ends a run."""

import signal
import time
from pathlib import Path
from typing import Any

import pytest

from benchmarks.dispatch import local
from benchmarks.dispatch.job import Failure, Job
from benchmarks.dispatch.launch import launch
from benchmarks.dispatch.local import InlineSlot, Machine, ProcessSlot
from benchmarks.dispatch.scheduler import Slot, schedule
from sskd.console.progress import Pace, Progress, Standing
from sskd.console.signals import StopSignal
from sskd.runs.run_folder import RunFolder
from sskd.runs.spec import RunSpec
from sskd.training.run import StepEvent
from tests import small
from tests.cluster.holding import job_in
from tests.cluster.suite import Suite

TWO_SLOTS = ("--cluster", "side_by_side", "--set", "cluster.runs_at_once=2")
TEACHER, KD, NONE = (
    small.spec(small.teacher()),
    small.spec(small.student("kd")),
    small.spec(small.student("none", teacher=None)),
)


class ScriptedSlot(Slot):
    """Ends runs as a script says: "done", "lost" (without a word), "unnoted" (a failure that is not in the folder)."""

    def __init__(self, job: Job, script: dict[str, list[str]]) -> None:
        self.job, self.script = job, script
        self.started: list[str] = []

    def start(self, spec: RunSpec, stop: StopSignal) -> None:
        self.started.append(spec.id)
        folder, self.failure = RunFolder(self.job.runs, spec), None
        folder.create()
        end = self.script.get(spec.id, ["done"]).pop(0)
        if end == "done":
            folder.save_result({"seconds": 1, "last": {"test_top1": 50.0}})
        elif end == "held":
            self.failure = Failure("another has it", "held")
        elif end == "unnoted":
            self.failure = Failure("the disk is full")
        elif end == "stop":
            stop.receive(signal.SIGTERM, None)


def scripted(tmp_path: Path, cluster: str, script: dict[str, list[str]]) -> tuple[dict[str, Failure], list[str]]:
    job = job_in(tmp_path, KD, NONE, cluster=cluster, settings=["poll_seconds=0.01"])
    slot = ScriptedSlot(job, script)
    with Progress(3) as progress:
        failures = schedule(job, progress, [slot])
    return failures, slot.started


def test_what_others_wait_for_comes_first(tmp_path: Path) -> None:
    failures, started = scripted(tmp_path, "side_by_side", {})
    assert failures == {}
    assert started[0] == TEACHER.id
    assert sorted(started[1:]) == sorted([KD.id, NONE.id])


def test_a_lost_run_is_started_again_and_costs_only_itself(tmp_path: Path) -> None:
    failures, started = scripted(tmp_path, "side_by_side", {KD.id: ["lost", "lost", "done"], NONE.id: ["lost"] * 4})
    assert list(failures) == [NONE.id]
    assert "was lost (its process was killed), 3 times" in failures[NONE.id].message
    assert (started.count(KD.id), started.count(NONE.id)) == (3, 3)
    assert list(scripted(tmp_path, "side_by_side", {})[0]) == [NONE.id]  # it was tried often enough


def test_a_run_that_another_has_begun_meanwhile_is_waited_for(tmp_path: Path) -> None:
    """Both found it free; the lock decides, and to be slower is no failure."""
    failures, started = scripted(tmp_path, "side_by_side", {KD.id: ["held"] * 5 + ["lost", "done"]})
    assert failures == {}
    assert started.count(KD.id) == 7


@pytest.mark.parametrize("cluster", ["inline", "side_by_side"])
def test_a_failure_that_cannot_be_noted_is_not_tried_again(cluster: str, tmp_path: Path) -> None:
    failures, started = scripted(tmp_path, cluster, {TEACHER.id: ["unnoted"]})
    assert failures[TEACHER.id].message == "the disk is full"
    assert failures[KD.id].message == f"not started: it needs {TEACHER.id}, which failed"
    assert started == [TEACHER.id, NONE.id]
    assert not (tmp_path / "runs" / TEACHER.id / "failed.json").exists()


def test_told_to_end_no_run_has_failed(tmp_path: Path) -> None:
    with pytest.raises(KeyboardInterrupt) as end:
        scripted(tmp_path, "side_by_side", {TEACHER.id: ["stop"]})
    assert getattr(end.value, "status", None) == 128 + signal.SIGTERM
    failures, started = scripted(tmp_path, "side_by_side", {})  # the claim was given back
    assert failures == {}
    assert len(started) == 3


def step(epoch: int, number: int, row: dict[str, Any] | None = None) -> StepEvent:
    return StepEvent("main", epoch, 4, number, 10, 100.0, row)


def test_pace(monkeypatch: pytest.MonkeyPatch) -> None:
    """A resumed run's time left follows from what it has done since."""
    now = 0.0
    monkeypatch.setattr(time, "monotonic", lambda: now)
    pace = Pace()
    now = 1.0
    assert pace(step(3, 1)) == Standing("main", 3, 4, None, 100.0, 19)  # a tenth of an epoch a second, 1.9 are left
    now = 10.0
    assert pace(step(3, 10, {"test_top1": 60.0})) == Standing("main", 3, 4, 60.0, 100.0, 10)


def test_plain_lines_of_several_runs(capsys: pytest.CaptureFixture[str]) -> None:
    progress = Progress(2, every=0.0)
    with progress:
        for epoch in (1, 2):
            for name in ("first", "second"):
                progress.show(name, Standing("main", epoch, 3, 50.0, 10.0, 7))
        progress.hide("first")
        progress.hide("first")
    shown = capsys.readouterr().out.splitlines()
    assert shown == [f"  {name} main epoch 2/3: top1 50.00, 10 images/s, 7 s left" for name in ("first", "second")]


def test_an_inline_run_keeps_a_log(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    job = job_in(tmp_path, NONE)
    with Progress(1) as progress:
        assert launch(job, progress) == {}
    log = (job.folder(NONE).path / "log.txt").read_text()
    assert "started: job" in log
    assert "main epoch 2/2: loss" in log
    assert "finished after" in log
    assert "started: job" not in capsys.readouterr().out


@pytest.mark.parametrize(("cores", "kinds"), [([0], [InlineSlot]), ([0, 1], [ProcessSlot, ProcessSlot])])
def test_one_core_trains_in_this_process(
    cores: list[int], kinds: list[type], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(local, "this_machine", lambda: Machine(cores, len(cores)))
    monkeypatch.setattr(local, "schedule", lambda job, progress, slots: slots)
    job = job_in(tmp_path, NONE, cluster="side_by_side")
    slots: Any = local.execute_here(job, Progress(1))
    assert [type(slot) for slot in slots] == kinds


@pytest.mark.slow
def test_side_by_side_as_alone(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    alone = Suite(tmp_path / "alone", "--cluster", "inline")
    assert alone.run() == 0
    capfd.readouterr()
    both = Suite(tmp_path / "both", *TWO_SLOTS)
    assert both.run() == 0
    shown = capfd.readouterr()
    assert "[5/5]" in shown.out
    assert shown.err == ""
    assert both.metrics() == alone.metrics()
    assert "finished after" in both.log("head")
    assert (both.jobs / "local.log").exists()
