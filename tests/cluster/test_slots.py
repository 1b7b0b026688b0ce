"""One loop, several kinds of slots: the same numbers in one process and side by side, whatever ends a run."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from benchmarks.dispatch.cluster import read_cluster
from benchmarks.dispatch.job import Failure, Job
from benchmarks.dispatch.launch import launch
from benchmarks.dispatch.scheduler import Slot, schedule
from benchmarks.planning.plan import make_plan
from sskd.console.progress import Pace, Progress, Standing
from sskd.console.signals import StopSignal
from sskd.runs.run_folder import RunFolder
from sskd.runs.spec import RunSpec
from sskd.runtime.cores import allowed_cores
from sskd.training.run import StepEvent
from tests import small
from tests.cluster.slurm_site import wait_for
from tests.cluster.suite import SLOW, Suite

TWO_SLOTS = ("--cluster", "side_by_side", "--set", "cluster.runs_at_once=2")
PATIENCE = 120.0
TEACHER, KD, NONE = (
    small.spec(small.teacher()),
    small.spec(small.student("kd")),
    small.spec(small.student("none", teacher=None)),
)


class ScriptedSlot:
    """Ends runs as a script says: "done", "lost" (without a word), "unnoted" (a failure that is not in the folder)."""

    def __init__(self, job: Job, script: dict[str, list[str]]) -> None:
        self.job, self.script = job, script
        self.started: list[str] = []
        self.failure: Failure | None = None

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

    def ended(self) -> bool:
        return True

    def terminate(self) -> None: ...

    def kill(self) -> None: ...


def scripted(tmp_path: Path, cluster: str, script: dict[str, list[str]]) -> tuple[dict[str, Failure], list[str]]:
    plan = make_plan([KD, NONE])
    job = Job(plan, tmp_path / "runs", small.EXECUTION, read_cluster(cluster, ["poll_seconds=0.01"]))
    slot = ScriptedSlot(job, script)
    slots: list[Slot] = [slot]
    with Progress(3) as progress:
        failures = schedule(job, progress, slots)
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
    return StepEvent(TEACHER, "main", epoch, 4, number, 10, 100.0, row)


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
    job = Job(make_plan([NONE]), tmp_path / "runs", small.EXECUTION, read_cluster("inline", []))
    with Progress(1) as progress:
        assert launch(job, progress) == {}
    log = (job.folder(NONE).path / "log.txt").read_text()
    assert "started: job" in log
    assert "main epoch 2/2: loss" in log
    assert "finished after" in log
    assert "started: job" not in capsys.readouterr().out


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


@pytest.mark.slow
def test_ctrl_c_saves_what_runs_side_by_side(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The terminal sends it to all processes; each saves inside its epoch, and the same command goes on there."""
    monkeypatch.setenv("SLOW_UNTIL", str(tmp_path / "go"))
    suite = Suite(tmp_path, *TWO_SLOTS, **SLOW | {"seeds": [0, 1]})
    command = [sys.executable, "run_all.py", *suite.command()]
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True, start_new_session=True)
    runs = ("slow-digits-s0", "slow-digits-s1")
    wait_for(lambda: all(suite.epochs(run) >= 1 for run in runs), PATIENCE, "epochs of both students")
    os.killpg(process.pid, signal.SIGINT)
    _, error = process.communicate(timeout=PATIENCE)
    assert process.returncode == 130
    assert "stopped; the same command resumes" in error
    assert "Traceback" not in error
    done = {run: suite.epochs(run) for run in runs}
    assert all("SIGTERM: " in suite.log(run) for run in runs)
    assert not any((suite.folder(run) / "failed.json").exists() for run in runs)
    (tmp_path / "go").touch()
    assert suite.run() == 0
    for run in runs:
        assert f"epoch {done[run] + 1}/12" in suite.log(run).split("started: job")[-1]


@pytest.fixture
def one_core_group() -> Iterator[Path]:
    """A control group with a quota of one core. Skips where this process may not make one."""
    for base in (Path("/sys/fs/cgroup/cpu"), Path("/sys/fs/cgroup")):
        group = base / f"sskd-test-{os.getpid()}"
        try:
            group.mkdir()
        except OSError:
            continue
        try:
            v1, v2 = group / "cpu.cfs_quota_us", group / "cpu.max"
            if v1.exists() or v2.exists():
                v1.write_text("100000") if v1.exists() else v2.write_text("100000 100000")
                yield group
                return
        finally:
            group.rmdir()
    pytest.skip("this process may not make a control group with a CPU quota")


def _run(suite: Suite, *before: str) -> None:
    command = [*before, sys.executable, "run_all.py", *suite.command()]
    environment = {key: value for key, value in os.environ.items() if key != "OMP_NUM_THREADS"}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=4 * PATIENCE)
    assert done.returncode == 0, done.stderr
    assert not (suite.jobs / "local.log").exists()  # one core, one slot, which is the process itself
    for run in suite.runs.iterdir():
        assert "finished after" in (run / "log.txt").read_text()
        assert json.loads((run / "result.json").read_text())["machine"]["threads"] == 1


SMALL_PLAN: dict[str, Any] = {"methods": ["none", "kd"], "cluster": "side_by_side", "execution": {}}


@pytest.mark.slow
def test_a_plan_under_taskset(tmp_path: Path) -> None:
    if not hasattr(os, "sched_setaffinity"):
        pytest.skip("this system has no affinity")
    code = f"import os, sys; os.sched_setaffinity(0, [{allowed_cores()[0]}]); os.execv(sys.argv[1], sys.argv[1:])"
    _run(Suite(tmp_path, **SMALL_PLAN), sys.executable, "-c", code)


@pytest.mark.slow
def test_a_plan_under_a_quota(tmp_path: Path, one_core_group: Path) -> None:
    _run(Suite(tmp_path, **SMALL_PLAN), "sh", "-c", f'echo $$ > {one_core_group}/cgroup.procs; exec "$@"', "sh")
