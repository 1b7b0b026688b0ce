"""Tests that status and cancel cover all runs in a results folder, independent of who started them."""

import json
import os
import re
import signal
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from benchmarks.commands.main import main
from benchmarks.dispatch import slurm, slurm_queue
from benchmarks.dispatch.cluster import read_cluster
from benchmarks.dispatch.job import Job
from benchmarks.dispatch.retries import read_slurm_submission
from benchmarks.dispatch.slurm import submit
from benchmarks.dispatch.slurm_queue import Queue, Queued, job_limits
from benchmarks.dispatch.status import read_state
from benchmarks.planning.plan import make_plan
from sskd.console.progress import Standing
from sskd.errors import UserError
from tests import small
from tests.cluster.holding import Holds, asked_of_slurm, job, set_age, submitted
from tests.cluster.suite import Suite

KD = small.spec(small.student("kd"))


@pytest.fixture
def suite(tmp_path: Path) -> Suite:
    return Suite(tmp_path, methods=["none"])


def lock_of(suite: Suite, run_id: str) -> Path:
    return suite.runs / run_id / "train.lock"


def progress(suite: Suite, run_id: str, age: float = 0.0) -> None:
    """Writes a run's progress file with an age in seconds."""
    folder = suite.runs / run_id
    folder.mkdir(parents=True, exist_ok=True)
    standing = Standing("main", 2, 12, 50.0, 651.0, 70, 2)._asdict()
    (folder / "progress.json").write_text(json.dumps(standing | {"host": "here", "job": "", "time": 0.0}))
    set_age(folder / "progress.json", age)


def state(suite: Suite, capsys: pytest.CaptureFixture[str], *options: str) -> dict[str, Any]:
    capsys.readouterr()
    assert suite.run("status", "--json", *options) == 0
    return dict(json.loads(capsys.readouterr().out))


# --- what others have at work ---------------------------------------------------------------------------------------


def test_status_names_what_other_requests_have_at_work(
    suite: Suite, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, holds: Holds
) -> None:
    """The runs are trained by a process, wait for a job, or are planned by a launcher or for a node. Finished runs and
    those of dead processes are not named."""
    asked_of_slurm(monkeypatch, job("7", "sskd-b", "PENDING", "Priority") | job("8", "sskd-n"))
    holds(lock_of(suite, "student-a"))
    progress(suite, "student-a")
    holds(lock_of(suite, "student-done"))
    (suite.runs / "student-done" / "result.json").touch()
    submitted(suite.jobs, "sskd-b", "student-b")
    submitted(suite.jobs, "sskd-n", "student-n", pool=True)
    submitted(suite.jobs, "sskd-over", "student-over")
    lock_of(suite, "student-dead").parent.mkdir()
    lock_of(suite, "student-dead").touch()
    holds(suite.jobs / "launchers" / "here-7.json", runs=[KD.id], starts=True)
    found = state(suite, capsys)
    others = {row["id"]: row for row in found["others"]}
    assert suite.run("status") == 0
    shown = capsys.readouterr().out
    assert {run_id: row["state"] for run_id, row in others.items()} == {
        "student-a": "running",
        "student-b": "waiting",
        "student-n": "waiting",
        KD.id: "waiting",
    }
    assert others["student-a"]["images_per_second"] == 651
    assert others["student-b"]["why"] == "pending: Priority"
    assert len(found["launchers"]) == 2
    assert "of another request: student-a: running, epoch 2/12, top-1 50.00, 651 images/s" in shown


@pytest.mark.parametrize(
    ("options", "all_of_them"),
    [
        (("--all",), True),
        ((), False),
        (("--only", "comparison", "--seeds", "0", "--set", "cluster.poll_seconds=1"), False),
    ],
)
def test_cancel_ends_all_in_the_folder_or_what_was_asked_for(
    options: Sequence[str],
    all_of_them: bool,
    suite: Suite,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    holds: Holds,
) -> None:
    """Also the launchers that would start the next run."""
    queue = job("7")
    asked_of_slurm(monkeypatch, queue)
    own = next(iter(state(suite, capsys)["runs"]))["id"]
    mine, other = holds(lock_of(suite, own)), holds(lock_of(suite, "student-other"))
    submitted(suite.jobs, "sskd-b", "student-job")
    files = [suite.jobs / "launchers" / f"{name}.json" for name in ("mine", "other")]
    for file, run_id in zip(files, (own, "student-other"), strict=True):
        holds(file, runs=[run_id], starts=True)
    if all_of_them:
        assert main(["cancel", *options, "--results", str(suite.results)]) == 0
    else:
        assert suite.run("cancel", *options) == 0
    shown = capsys.readouterr().out
    assert mine.wait(10) == -signal.SIGTERM
    assert (not queue) == all_of_them
    assert [file.exists() for file in files] == [False, not all_of_them]
    if all_of_them:
        assert other.wait(10) == -signal.SIGTERM
        assert "3 runs told to save and end" in shown
    else:
        assert other.poll() is None
        assert "2 runs of other requests continue: student-job, student-other" in shown
        assert "1 run told to save and end" in shown


@pytest.mark.parametrize(
    ("kind", "words"),
    [
        ("another user's", r"student-x: process \d+ of bob on \S+ belongs to another user"),
        ("gone meanwhile", ""),
        ("on another host", r"student-x: process \d+ of bob on elsewhere cannot be ended from this host"),
        ("on another host, with its launcher", ""),
        ("another user's job", "1 job of bob: scancel refuses: Access/permission denied"),
    ],
)
def test_what_cannot_be_cancelled_is_a_line(
    kind: str,
    words: str,
    suite: Suite,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    holds: Holds,
) -> None:
    """The others are ended, and nothing is a traceback."""
    asked_of_slurm(monkeypatch, job("7"))
    if kind == "another user's job":
        submitted(suite.jobs, "sskd-b", "student-x", user="bob")
        answer = slurm_queue.slurm

        def refuse(*command: str) -> str:
            if command[0] == "scancel":
                raise UserError("scancel refuses: Access/permission denied")
            return answer(*command)

        monkeypatch.setattr(slurm_queue, "slurm", refuse)
    else:
        elsewhere = {"host": "elsewhere"} if "host" in kind else {}
        holds(lock_of(suite, "student-x"), user="bob", **elsewhere)
        if "launcher" in kind:
            holds(suite.jobs / "launchers" / "a.json", runs=["student-x"], starts=True, **elsewhere)
    errors = {"another user's": PermissionError(1, "no"), "gone meanwhile": ProcessLookupError(3, "no")}

    def kill(pid: int, number: int) -> None:
        raise errors[kind]

    with monkeypatch.context() as patched:
        patched.setattr(os, "kill", kill)
        assert main(["cancel", "--all", "--results", str(suite.results)]) == 0
    output = capsys.readouterr()
    assert output.err == ""
    assert f"{int('launcher' in kind)} run" in output.out
    assert re.search(words, output.out)
    assert len(output.out.splitlines()) == (2 if words else 1)


def test_what_earlier_versions_left_is_passed_over(suite: Suite, capsys: pytest.CaptureFixture[str]) -> None:
    """Claims, launchers, counts and notes of cancelling, also damaged ones."""
    own = state(suite, capsys)["runs"][0]["id"]
    claim = json.dumps({"token": "a", "host": "here", "pid": os.getpid(), "born": "1", "user": "u", "batch": "b"})
    files = {
        f"claims/{own}/1.json": claim,
        "launchers/here-7/1.json": claim,
        "launchers/here-7/runs.json": json.dumps([own]),
        "launchers/here.json": "[]",
        f"attempts/{own}.json": '{"lost": 3}',
        "cancelled": f"{own}\n",
        "batches/sskd-x.json": "{",
        "batches/sskd-y.json": '{"runs": "r", "ids": 7, "retries": {}}',
    }
    for name, text in files.items():
        (suite.jobs / name).parent.mkdir(parents=True, exist_ok=True)
        (suite.jobs / name).write_text(text)
    found = state(suite, capsys)
    assert ([row["state"] for row in found["runs"]], found["launchers"], found["others"]) == (["to do"], [], [])
    assert suite.run("cancel") == 0
    assert "0 runs told" in capsys.readouterr().out


# --- what is said of a run ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("slurm", "reason"),
    [("PENDING", "Resources"), ("CONFIGURING", "None"), ("COMPLETING", "None"), ("REQUEUE_HOLD", "JobHoldMaxRequeue")],
)
def test_what_slurm_says_waits_is_not_running(
    slurm: str, reason: str, suite: Suite, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever the run itself said two seconds ago, before it was requeued."""
    own = state(suite, capsys)["runs"][0]["id"]
    asked_of_slurm(monkeypatch, job("7", "sskd-b", slurm, reason))
    submitted(suite.jobs, "sskd-b", own)
    progress(suite, own)
    (row,) = state(suite, capsys)["runs"]
    assert (row["state"], row["why"]) == ("waiting", f"{slurm.lower()}: {reason}")
    assert row["images_per_second"] is None


def test_of_a_silent_slurm_nothing_is_taken_for_lost(
    suite: Suite, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, holds: Holds
) -> None:
    def slurm_error(*_: str) -> str:
        raise UserError("squeue refuses: Unable to contact slurm controller")

    own = state(suite, capsys)["runs"][0]["id"]
    monkeypatch.setattr(slurm_queue, "slurm", slurm_error)
    submitted(suite.jobs, "sskd-b", own)
    found = state(suite, capsys)
    assert found["runs"][0]["state"] == "waiting"
    assert "Unable to contact" in found["slurm"]
    assert suite.run("cancel") == 2
    holds(lock_of(suite, own))  # it goes on, as its lock says
    assert state(suite, capsys)["runs"][0]["state"] == "running"


@pytest.mark.parametrize("slurm", ["", "RUNNING"])
def test_the_pace_of_an_earlier_start_is_not_shown(
    slurm: str, suite: Suite, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, holds: Holds
) -> None:
    """A job that has been started again, or a process that hangs, says nothing for a while."""
    own = state(suite, capsys)["runs"][0]["id"]
    asked_of_slurm(monkeypatch, job("7"))
    if slurm:
        submitted(suite.jobs, "sskd-b", own)
    else:
        holds(lock_of(suite, own))
    for age, pace, words in ((5, 651, ""), (3600, None, "last heartbeat 1 h 0 min ago")):
        progress(suite, own, age)
        (row,) = state(suite, capsys)["runs"]
        assert (row["state"], row["images_per_second"], row["why"]) == ("running", pace, words)


def test_a_failed_need_is_named(tmp_path: Path) -> None:
    job = Job(make_plan([KD]), tmp_path / "runs", small.EXECUTION, read_cluster("inline", []))
    teacher = KD.dependencies[0]
    job.folder(teacher).create()
    job.folder(teacher).save_failure("it broke")
    rows = {row.id: row for row in read_state(job, {}).runs}
    assert (rows[teacher.id].state, rows[teacher.id].why) == ("failed", "it broke")
    assert (rows[KD.id].state, rows[KD.id].why) == ("failed", f"not started: it needs {teacher.id}, which failed")


def test_after_a_kill_the_last_sign_of_life(suite: Suite, capsys: pytest.CaptureFixture[str], holds: Holds) -> None:
    own = state(suite, capsys)["runs"][0]["id"]
    other = holds(lock_of(suite, own))
    other.kill()
    other.wait()
    progress(suite, own, 600)
    (row,) = state(suite, capsys)["runs"]
    assert (row["state"], row["images_per_second"]) == ("to do", None)
    assert row["why"].endswith("last heartbeat 10 min 0 s ago")
    assert row["last_sign"] == pytest.approx(600, abs=30)


# --- Slurm's queue and limits ---------------------------------------------------------------------------------------


def test_slurm_is_asked_once_for_all_jobs_of_a_user(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Never where nothing was submitted; jobs that carry other names are passed over."""
    queue = job("7_1", "sskd-b") | job("9", "another's") | job("8", "sskd-c", "PENDING")
    commands = asked_of_slurm(monkeypatch, queue)
    assert Queue(tmp_path).runs() == set()
    assert commands == []
    submitted(tmp_path, "sskd-b", "x", "y")
    submitted(tmp_path, "sskd-c", "z", pool=True)
    submitted(tmp_path, "sskd-d", "over")
    found = Queue(tmp_path)
    assert len(commands) == 1
    assert {run_id: job.number for run_id, job in found.tasks.items()} == {"y": "7_1"}
    assert [job.ids for job in found.pools] == [["z"]]
    found.forget_old(tmp_path)
    assert sorted(file.name for file in (tmp_path / "batches").iterdir()) == ["sskd-b.json", "sskd-c.json"]


@pytest.mark.parametrize(
    ("settings", "limits", "refused"),
    [
        (["time=2:00:00"], "gpu*|1:00:00", "the limit of partition 'gpu', 60 minutes"),
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

    def slurm_error(*_: str) -> str:
        raise UserError("there is no sinfo on the PATH")

    monkeypatch.setattr(slurm_queue, "slurm", slurm_error)
    slurm_queue.check_time(cluster)


def test_a_plan_refuses_that_time_too(
    suite: Suite, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(slurm_queue, "slurm", lambda *_: "gpu*|1:00:00")
    settings = ("cluster.time=2:00:00", "cluster.partition=gpu")
    assert suite.run("plan", "--cluster", "slurm", "--set", *settings) == 2
    assert "the limit of partition 'gpu', 60 minutes" in capsys.readouterr().err


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
    job = Job(make_plan([KD]), tmp_path / "s" / "runs", small.EXECUTION, cluster)
    queue = {
        "7": Queued("7", state, reason, "sskd-b"),
        "8": Queued("8", "PENDING", "Dependency", "sskd-c"),
    }
    commands, said, again, waits = asked_of_slurm(monkeypatch, queue), list[str](), list[str](), list[str]()
    asked = None if before is None else job_limits(cluster) | before
    for name, spec, limits in (("sskd-b", KD.dependencies[0], asked), ("sskd-c", KD, job_limits(cluster))):
        submitted(job.jobs_folder, name, spec.id, asked=limits)

    def submit_jobs(cluster: Any, jobs: Path, noted: Path, tasks: Any, processes: int, after: str) -> list[str]:
        again.extend(read_slurm_submission(noted).ids)
        number = str(100 + len(again))
        queue[number] = Queued(number, "PENDING", "Priority", noted.stem)
        waits.append(after)
        return [number for _ in tasks]

    monkeypatch.setattr(slurm, "submit_jobs", submit_jobs)
    monkeypatch.setattr(slurm, "check_parameters", lambda *_: None)
    assert submit(job, said.append) == {}
    assert [command[0] for command in commands if command[0] == "scancel"] == ["scancel"] * replaced
    assert again == ([KD.dependencies[0].id, KD.id] if replaced else [])
    assert waits == (["", "afterok:101"] if replaced else [])
    assert replaced == any("outdated limits" in line for line in said)
    assert set(Queue(job.jobs_folder).tasks) == {KD.dependencies[0].id, KD.id}


def test_jobs_that_will_never_start_are_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    cluster = read_cluster("slurm", [])
    teacher = KD.dependencies[0]
    job, said = Job(make_plan([teacher]), tmp_path / "s" / "runs", small.EXECUTION, cluster), list[str]()
    asked_of_slurm(monkeypatch, {"7": Queued("7", "PENDING", "PartitionTimeLimit", "sskd-b")})
    submitted(job.jobs_folder, "sskd-b", teacher.id, asked=job_limits(cluster))
    submit(job, said.append)
    assert any("1 job will never start (PartitionTimeLimit)" in line for line in said)
