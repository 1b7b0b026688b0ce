"""What status and cancel see and end in a results folder, whoever has started it."""

import json
import os
import re
import signal
import subprocess
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from benchmarks.commands.main import main
from benchmarks.dispatch import slurm_array, slurm_queue
from benchmarks.dispatch.cancel import cancel
from benchmarks.dispatch.cluster import job_limits, read_cluster
from benchmarks.dispatch.retries import Submission
from benchmarks.dispatch.run_lock import LockHolder, RunLocks, file_time, process_birth
from benchmarks.dispatch.slurm_array import submit
from benchmarks.dispatch.slurm_queue import HolderMonitor, Queued
from benchmarks.dispatch.work import Work, cancelled_since
from benchmarks.planning.plan import make_plan
from sskd.console.progress import Standing
from sskd.errors import UserError
from tests import small
from tests.cluster.suite import Suite

KD = small.spec(small.student("kd"))


@pytest.fixture
def suite(tmp_path: Path) -> Suite:
    return Suite(tmp_path, methods=["none"])


def hold(suite: Suite, run_id: str, **holder: Any) -> LockHolder:
    """A claim of the run, of this process or as it is said."""
    claimed = LockHolder(**holder)
    assert RunLocks(suite.jobs / "claims").acquire(run_id, claimed, lambda _: False)
    return claimed


def progress(suite: Suite, run_id: str, age: float = 0.0) -> None:
    """What a run says of itself, so many seconds ago."""
    folder = suite.runs / run_id
    folder.mkdir(parents=True, exist_ok=True)
    standing = Standing("main", 2, 12, 50.0, 651.0, 70, 2)._asdict()
    (folder / "progress.json").write_text(json.dumps(standing | {"host": "here", "job": "", "time": 0.0}))
    now = file_time(folder)
    assert now is not None
    os.utime(folder / "progress.json", (now - age, now - age))


@pytest.fixture
def child() -> Iterator[Callable[[], "subprocess.Popen[bytes]"]]:
    started: list[subprocess.Popen[bytes]] = []

    def start() -> "subprocess.Popen[bytes]":
        started.append(subprocess.Popen(["sleep", "60"]))
        return started[-1]

    yield start
    for process in started:
        process.kill()
        process.wait()


def asked_of_slurm(monkeypatch: pytest.MonkeyPatch, queue: dict[str, Queued]) -> list[tuple[str, ...]]:
    """Slurm as the queue has it; the commands that it was asked with. scancel takes jobs off the queue."""
    commands: list[tuple[str, ...]] = []

    def answer(*command: str) -> str:
        commands.append(command)
        if command[0] == "scancel":
            for job in command[1:]:
                queue.pop(job, None)
        lines = [f"{job.job}|{job.state}|{job.reason}|{job.name}" for job in queue.values()]
        return "\n".join(lines) if command[0] == "squeue" else ""

    monkeypatch.setattr(slurm_queue, "slurm", answer)
    return commands


def state(suite: Suite, capsys: pytest.CaptureFixture[str], *options: str) -> dict[str, Any]:
    capsys.readouterr()
    assert suite.run("status", "--json", *options) == 0
    return dict(json.loads(capsys.readouterr().out))


# --- what others have at work ---------------------------------------------------------------------------------------


def test_status_names_what_other_requests_have_at_work(
    suite: Suite, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """By a process, by a job that waits, planned by a launcher, with a lock alone; finished and dead ones are none."""
    asked_of_slurm(monkeypatch, {"7": Queued("7", "PENDING", "Priority", "sskd-b")})
    hold(suite, "student-a")
    progress(suite, "student-a")
    hold(suite, "student-b", batch="b", job="7")
    hold(suite, "student-dead", born="1")
    work = Work(make_plan([KD]), suite.runs, small.EXECUTION, None)  # type: ignore[arg-type]
    work.note_launcher(LockHolder())
    (suite.runs / "student-locked").mkdir()
    (suite.runs / "student-locked" / "train.lock").touch()
    monkeypatch.setattr("benchmarks.dispatch.status.lock_holder", lambda lock: "process 9" if lock.exists() else "")
    others = {row["id"]: row for row in state(suite, capsys)["others"]}
    assert suite.run("status") == 0
    shown = capsys.readouterr().out
    assert {run_id: row["state"] for run_id, row in others.items()} == {
        "student-a": "running",
        "student-b": "waiting",
        "student-locked": "running",
        KD.id: "waiting",
        KD.needs[0].id: "waiting",
    }
    assert others["student-a"]["images_per_second"] == 651
    assert others["student-b"]["why"] == "pending: Priority"
    assert "of another request: student-a: running, epoch 2/12, top-1 50.00, 651 images/s" in shown


@pytest.mark.parametrize(
    ("options", "all_of_them"),
    [
        (("--all",), True),
        ((), False),
        (("--set", "cluster.poll_seconds=1", "execution.threads=1"), False),
        (("--only", "comparison", "--seeds", "0"), False),
    ],
)
def test_cancel_ends_all_in_the_folder_or_what_was_asked_for(
    options: Sequence[str],
    all_of_them: bool,
    suite: Suite,
    child: Callable[[], "subprocess.Popen[bytes]"],
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    queue = {"7": Queued("7", "RUNNING", "None", "sskd-b")}
    asked_of_slurm(monkeypatch, queue)
    own = next(iter(state(suite, capsys)["runs"]))["id"]
    processes = {}
    for run_id in (own, "student-other"):
        processes[run_id] = child()
        hold(suite, run_id, pid=processes[run_id].pid, born=process_birth(processes[run_id].pid))
    hold(suite, "student-job", batch="b", job="7")
    if all_of_them:
        assert main(["cancel", *options, "--results", str(suite.results)]) == 0
    else:
        assert suite.run("cancel", *options) == 0
    shown = capsys.readouterr().out
    assert processes[own].wait(10) == -signal.SIGTERM
    assert (not queue) == all_of_them
    if all_of_them:
        assert processes["student-other"].wait(10) == -signal.SIGTERM
        assert "told 3 runs to end" in shown
    else:
        assert processes["student-other"].poll() is None
        assert "2 runs of another request go on: student-job, student-other" in shown
        assert "told 1 run to end" in shown


@pytest.mark.parametrize("everything", [True, False])
def test_a_launcher_ends_only_if_its_runs_were_meant(suite: Suite, everything: bool) -> None:
    def work(kind: str) -> Work:
        return Work(make_plan([small.spec(small.student(kind))]), suite.runs, small.EXECUTION, None)  # type: ignore[arg-type]

    before = time.time() - 5
    cancel(work("kd"), print, everything=everything)
    assert cancelled_since(work("kd"), before)
    assert not cancelled_since(work("kd"), time.time() + 5)
    other = Work(make_plan([small.spec(small.student("none", teacher=None))]), suite.runs, small.EXECUTION, None)  # type: ignore[arg-type]
    assert cancelled_since(other, before) == everything


@pytest.mark.parametrize(
    ("kind", "words"),
    [
        ("another user's", r"student-x: process \d+ of bob on \S+ is not yours to end"),
        ("gone meanwhile", ""),
        ("number used again", ""),
        ("on another host", r"student-x: process \d+ of bob on elsewhere cannot be ended from here"),
        ("another user's job", "1 job of bob: scancel refuses: Access/permission denied"),
    ],
)
def test_what_cannot_be_cancelled_is_a_line(
    kind: str, words: str, suite: Suite, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The others are ended, nothing is a traceback, and no other process gets a signal."""
    commands = asked_of_slurm(monkeypatch, {"7": Queued("7", "RUNNING", "None", "sskd-b")})
    if kind == "another user's job":
        hold(suite, "student-x", user="bob", batch="b", job="7")
        answer = slurm_queue.slurm

        def refuse(*command: str) -> str:
            if command[0] == "scancel":
                raise UserError("scancel refuses: Access/permission denied")
            return answer(*command)

        monkeypatch.setattr(slurm_queue, "slurm", refuse)
    else:
        hold(suite, "student-x", user="bob", **({"host": "elsewhere"} if kind == "on another host" else {}))
    if kind == "number used again":
        claim = suite.jobs / "claims" / "student-x" / "1.json"
        alive = iter([True, False])
        monkeypatch.setattr(slurm_queue, "process_is_alive", lambda *_: next(alive))
        claim.write_text(claim.read_text().replace(process_birth(os.getpid()), "1"))
    errors = {"another user's": PermissionError(1, "no"), "gone meanwhile": ProcessLookupError(3, "no")}
    signalled: list[int] = []

    def kill(pid: int, number: int) -> None:
        signalled.append(number)
        if number and kind in errors:
            raise errors[kind]

    monkeypatch.setattr(os, "kill", kill)
    assert main(["cancel", "--all", "--results", str(suite.results)]) == 0
    output = capsys.readouterr()
    assert output.err == ""
    assert "told 0 runs to end" in output.out
    assert re.search(words, output.out)
    assert len(output.out.splitlines()) == (2 if words else 1)
    assert signal.SIGTERM not in signalled or kind in errors
    assert commands is not None


# --- what is said of a run ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("slurm", "reason"),
    [
        ("PENDING", "Resources"),
        ("PENDING", "BeginTime"),
        ("CONFIGURING", "None"),
        ("COMPLETING", "None"),
        ("SUSPENDED", "None"),
        ("REQUEUE_HOLD", "JobHoldMaxRequeue"),
    ],
)
def test_what_slurm_says_waits_is_not_running(
    slurm: str, reason: str, suite: Suite, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever the run itself said two seconds ago, before it was requeued."""
    own = state(suite, capsys)["runs"][0]["id"]
    asked_of_slurm(monkeypatch, {"7": Queued("7", slurm, reason, "sskd-b")})
    hold(suite, own, batch="b", job="7")
    progress(suite, own)
    (row,) = state(suite, capsys)["runs"]
    assert (row["state"], row["why"]) == ("waiting", f"{slurm.lower()}: {reason}")
    assert row["images_per_second"] is None


@pytest.mark.parametrize("slurm", ["", "RUNNING"])
def test_the_pace_of_an_earlier_start_is_not_shown(
    slurm: str, suite: Suite, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A job that has been started again, or a process that hangs, says nothing for a while."""
    own = state(suite, capsys)["runs"][0]["id"]
    asked_of_slurm(monkeypatch, {"7": Queued("7", slurm, "None", "sskd-b")})
    hold(suite, own, **({"batch": "b", "job": "7"} if slurm else {}))
    for age, pace, words in ((5, 651, ""), (3600, None, "last sign of life 1 h 0 min ago")):
        progress(suite, own, age)
        (row,) = state(suite, capsys)["runs"]
        assert (row["state"], row["images_per_second"], row["why"]) == ("running", pace, words)


def test_after_a_kill_the_last_sign_of_life(suite: Suite, capsys: pytest.CaptureFixture[str]) -> None:
    own = state(suite, capsys)["runs"][0]["id"]
    hold(suite, own, born="1")
    progress(suite, own, 600)
    (row,) = state(suite, capsys)["runs"]
    assert (row["state"], row["images_per_second"]) == ("to do", None)
    assert row["why"].endswith("last sign of life 10 min 0 s ago")
    assert row["last_sign"] == pytest.approx(600, abs=30)


# --- Slurm's queue and limits ---------------------------------------------------------------------------------------


def test_slurm_is_asked_once_a_poll_for_all_holders(suite: Suite, monkeypatch: pytest.MonkeyPatch) -> None:
    queue = {str(number): Queued(str(number), "RUNNING", "None", "sskd-b") for number in range(20)}
    commands = asked_of_slurm(monkeypatch, queue)
    liveness = HolderMonitor(suite.runs)
    for _ in range(5):
        for number in range(20):
            liveness = liveness.renewed()
            assert liveness("run", LockHolder(batch="b", job=str(number)))
    assert len(commands) == 1
    assert liveness.renewed(0.0) is not liveness


@pytest.mark.parametrize(
    ("settings", "limits", "refused"),
    [
        (["time=2:00:00"], "gpu*|1:00:00", "above the limit of partition 'gpu', 60 minutes"),
        (["time=1-0", "partition=long"], "gpu*|1:00:00\nlong|23:59:00", "partition 'long', 1439 minutes"),
        (["time=61", "partition=gpu"], "gpu|1:00:00\nall*|infinite", "partition 'gpu'"),
        (["time=3:00:00", "partition=gpu,big"], "gpu|1:00:00\nbig|2:00:00", "partition 'big', 120 minutes"),
        (["time=1:00:00"], "gpu*|1:00:00", ""),
        (["time=2-0"], "gpu*|infinite", ""),
        (["time=90", "partition=gpu,big"], "gpu|1:00:00\nbig|2:00:00", ""),
        (["time=2:00:00", "qos=long"], "gpu*|1:00:00", ""),  # which may have a limit of its own
        (["time=2:00:00", "partition=nowhere"], "gpu*|1:00:00", ""),  # sbatch says that
        (["time=null"], "gpu*|1:00:00", ""),
        (["time=2:00:00"], "", ""),
    ],
)
def test_a_time_above_the_partitions_limit_is_refused(
    settings: list[str], limits: str, refused: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(slurm_queue, "slurm", lambda *_: limits)
    cluster = read_cluster("slurm", settings)
    if refused:
        with pytest.raises(UserError, match=refused):
            slurm_queue.check_time(cluster)
        return
    slurm_queue.check_time(cluster)

    def silent(*_: str) -> str:
        raise UserError("there is no sinfo on the PATH")

    monkeypatch.setattr(slurm_queue, "slurm", silent)
    slurm_queue.check_time(cluster)


def test_a_plan_refuses_that_time_too(
    suite: Suite, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(slurm_queue, "slurm", lambda *_: "gpu*|1:00:00")
    settings = ("cluster.time=2:00:00", "cluster.partition=gpu")
    assert suite.run("plan", "--cluster", "slurm", "--set", *settings) == 2
    assert "above the limit of partition 'gpu', 60 minutes" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("before", "reason", "state", "replaced"),
    [
        ({}, "Priority", "PENDING", False),
        ({"time": 5}, "Priority", "PENDING", True),
        ({"partition": "other"}, "PartitionTimeLimit", "PENDING", True),
        ({"gpus_per_run": 8}, "Resources", "PENDING", True),
        ({"time": 5}, "None", "RUNNING", False),
        (None, "Priority", "PENDING", False),  # of an earlier version, whose limits were not noted
        (None, "QOSMaxWallDurationPerJobLimit", "PENDING", True),
    ],
)
def test_waiting_jobs_of_other_limits_are_replaced(
    before: dict[str, Any] | None,
    reason: str,
    state: str,
    replaced: bool,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """And those that wait for one of them."""
    cluster = read_cluster("slurm", ["time=60"])
    work = Work(make_plan([KD]), tmp_path / "s" / "runs", small.EXECUTION, cluster)
    queue = {
        "7": Queued("7", state, reason, "sskd-b"),
        "8": Queued("8", "PENDING", "Dependency", "sskd-c"),
    }
    commands, said, submitted = asked_of_slurm(monkeypatch, queue), list[str](), list[str]()
    asked = None if before is None else job_limits(cluster) | before
    for batch, job, spec, limits in (("b", "7", KD.needs[0], asked), ("c", "8", KD, job_limits(cluster))):
        holder = LockHolder(batch=batch, job=job)
        assert work.locks.acquire(spec.id, holder, lambda _: False)
        Submission(work.runs, [spec.id], {}, limits).save(slurm_queue.batch_file(work.jobs, batch))

    def submit_runs(cluster: Any, jobs: Path, name: str, batch: Any, tasks: Any, *_: Any) -> list[str]:
        submitted.extend(batch.ids)
        number = str(100 + len(submitted))
        queue[number] = Queued(number, "PENDING", "Priority", slurm_queue.job_name(name))
        return [number for _ in tasks]

    monkeypatch.setattr(slurm_array, "submit_runs", submit_runs)
    monkeypatch.setattr(slurm_array, "check_parameters", lambda *_: None)
    assert submit(work, said.append) == {}
    assert [command[0] for command in commands if command[0] == "scancel"] == ["scancel"] * replaced
    assert submitted == ([KD.needs[0].id, KD.id] if replaced else [])
    assert replaced == any("asked for other limits" in line for line in said)
    if replaced:
        assert getattr(work.locks.holder(KD.id), "job", None) == "102"


def test_jobs_that_will_never_start_are_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    cluster = read_cluster("slurm", [])
    teacher = KD.needs[0]
    work, said = Work(make_plan([teacher]), tmp_path / "s" / "runs", small.EXECUTION, cluster), list[str]()
    asked_of_slurm(monkeypatch, {"7": Queued("7", "PENDING", "PartitionTimeLimit", "sskd-b")})
    assert work.locks.acquire(teacher.id, LockHolder(batch="b", job="7"), lambda _: False)
    Submission(work.runs, [teacher.id], {}, job_limits(cluster)).save(slurm_queue.batch_file(work.jobs, "b"))
    submit(work, said.append)
    assert any("1 job will never start as asked for (PartitionTimeLimit)" in line for line in said)
