"""Tests the failures of docs/reliability.md on a real Slurm with one node."""

import json
import os
import re
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from benchmarks.dispatch.retries import read_slurm_submission
from sskd.runs.files import Holder, lock_holder
from tests.cluster.slurm_site import PATIENCE, SlurmSite, missing, output, queue, second_tasks, wait_for
from tests.cluster.suite import RECIPE, SLOW, Suite

pytestmark = [
    pytest.mark.slurm,
    pytest.mark.skipif(bool(missing()), reason=missing()),
    pytest.mark.usefixtures("quiet"),
]

SETTINGS = (
    *("cluster.gpus_per_run=0", "cluster.cpus_per_run=1", "cluster.mem_gb=0.4", "cluster.time=30"),
    *("cluster.poll_seconds=0.5", "cluster.array_width=2", "execution.threads=1"),
)
SLURM = ("--cluster", "slurm", "--set", *SETTINGS)


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Suite:
    """The slow suite, undisturbed and in this process."""
    suite = Suite(tmp_path_factory.mktemp("whole"), **SLOW)
    assert suite.run("--seeds", "0,1,2") == 0
    return suite


@pytest.fixture
def slow(whole: Suite, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Suite:
    """The slow suite, to be run on Slurm."""
    monkeypatch.setenv("SLOW_UNTIL", str(tmp_path / "go"))
    return Suite(tmp_path, *SLURM, **SLOW)


def start(suite: Suite, *options: str) -> str:
    """Submits the suite and waits until its student has done an epoch; the student's job."""
    assert suite.run("--detach", *options) == 0
    wait_for(lambda: suite.epochs("student") >= 1, PATIENCE, "the student's epochs")
    return holder(suite).job


def holder(suite: Suite, part: str = "student") -> Holder:
    found = lock_holder(suite.folder(part) / "train.lock")
    assert found is not None
    return found


def finish(suite: Suite, tmp_path: Path, whole: Suite, *options: str) -> None:
    """Lets the students go on fast; what they then have must be what undisturbed runs have."""
    (tmp_path / "go").touch()
    assert suite.run(*options) == 0
    expected = whole.metrics()
    assert suite.metrics() == {run: expected[run] for run in suite.metrics()}


def starts(suite: Suite, part: str = "student") -> int:
    return suite.log(part).count("started: job")


def test_arrays_with_dependencies(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A second run_all submits nothing; a third waits and makes the report, which is an inline run's."""
    suite = Suite(tmp_path / "slurm", *SLURM, seeds=[0, 1])
    assert suite.run("--detach") == 0
    assert "submitted 8 runs in 3 arrays" in capsys.readouterr().out
    scripts = [path.read_text() for path in suite.jobs.glob("*_submission.sh")]
    arrays = sorted(re.findall(r"--array=\S+", " ".join(scripts)))
    assert arrays == ["--array=0-1%2", "--array=0-2%2", "--array=0-2%2"]  # sskd; head and kd; teacher and none
    assert sum("--dependency=afterok:" in text for text in scripts) == 2
    wait_for(lambda: any(row["why"] == "pending: Dependency" for row in suite.state(capsys).values()), 30, "waiting")
    assert {row["state"] for row in suite.state(capsys).values()} <= {"waiting", "running", "finished"}
    assert suite.run("--detach") == 0
    assert "submitted 0 runs in 0 arrays" in capsys.readouterr().out
    assert suite.run() == 0
    inline = Suite(tmp_path / "inline", seeds=[0, 1])
    assert inline.run() == 0
    assert suite.metrics() == inline.metrics()
    assert {row["state"] for row in suite.state(capsys).values()} == {"finished"}
    machine = json.loads((suite.folder("head") / "result.json").read_text())["machine"]
    assert machine["slurm_job"]
    assert machine["host"]


def test_two_at_once(tmp_path: Path) -> None:
    suite = Suite(tmp_path, *SLURM, methods=["none", "kd"])
    command = [sys.executable, "run_all.py", *suite.command()]
    both = [subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True) for _ in range(2)]
    for process in both:
        text, _ = process.communicate(timeout=2 * PATIENCE)
        assert process.returncode == 0, text
    ids = [run for path in (suite.jobs / "batches").glob("*.json") for run in read_slurm_submission(path).ids]
    assert len(ids) == len(set(ids)) == 3


def test_time_limit(slow: Suite, whole: Suite, tmp_path: Path) -> None:
    """The signal comes before the limit of one minute; the run saves, requeues itself, and goes on."""
    start(slow, "--set", "cluster.time=0:01:00", "cluster.signal_seconds=35")
    wait_for(lambda: "SIGUSR2" in slow.log("student"), PATIENCE, "the signal before the limit")
    wait_for(lambda: starts(slow) >= 2, PATIENCE, "the requeued job")
    finish(slow, tmp_path, whole)


def test_interrupted_inside_an_epoch(slow: Suite, whole: Suite, tmp_path: Path) -> None:
    """Three at the same time: preempted by a signal, requeued by the administrator, killed."""
    students = ["digits-s0", "digits-s1", "digits-s2"]
    assert slow.run("--detach", "--seeds", "0,1,2", "--set", "cluster.array_width=3") == 0
    wait_for(lambda: all(slow.epochs(student) >= 1 for student in students), PATIENCE, "the students' epochs")
    preempted, requeued, killed = (holder(slow, student) for student in students)
    output("scancel", "--signal=USR2", preempted.job)
    assert not output("scontrol", "requeue", requeued.job)
    os.kill(killed.pid, signal.SIGKILL)
    wait_for(lambda: all(starts(slow, student) == 2 for student in students), PATIENCE, "the second starts")
    for student, word in zip(students, ("SIGUSR2", "SIGTERM", "started again (1 of 2)"), strict=True):
        assert word in slow.log(student)
    finish(slow, tmp_path, whole, "--seeds", "0,1,2")


def test_slurmctld_restarts(
    site: SlurmSite, slow: Suite, whole: Suite, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """While Slurm is silent nothing is taken for lost, and nothing is submitted again."""
    start(slow)
    site.stop_controller()
    try:
        (student,) = [row for name, row in slow.state(capsys).items() if "student" in name]
        assert student["state"] == "running"  # by its lock
        assert slow.run("status") == 0
        assert "Slurm does not answer" in capsys.readouterr().out
        assert slow.run("--detach") == 0
        assert "submitted 0 runs" in capsys.readouterr().out
        assert slow.run("--detach", "--seeds", "0,1") == 2  # one more, which cannot be submitted now
        assert "Unable to contact slurm controller" in capsys.readouterr().err
    finally:
        site.start_controller()
        site.wait_for_node()
    finish(slow, tmp_path, whole)
    assert len(list((slow.jobs / "batches").glob("*.json"))) == 1


def test_a_dependency_that_fails(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The head's rate is too large: SSKD says which run it needs, KD is there, and the queue is empty."""
    suite = Suite(tmp_path, *SLURM, methods=["kd", "sskd"])
    too_fast = "head_recipe={learning_rate: 1000, weight_decay: 100, epochs: 12, batch_size: 16}"
    assert suite.run("--set", too_fast) == 2
    error = capsys.readouterr().err
    head = suite.folder("head").name
    assert f"{head}: {head} diverged" in error
    assert f"not started: it needs {head}, which failed" in error
    assert (suite.folder("-kd-") / "result.json").exists()
    wait_for(lambda: not queue(), PATIENCE, "an empty queue")
    failed = json.loads((suite.runs / head / "failed.json").read_text())
    assert any("diverged" in line for line in failed["last_lines"])


def test_an_exception_is_retried_then_failed_then_retried_by_hand(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    crashes = tmp_path / "crashes"
    crashes.mkdir()
    for name in "abc":
        (crashes / name).touch()
    monkeypatch.setenv("CRASHES", str(crashes))
    suite = Suite(tmp_path, *SLURM, methods=["slow"])
    assert suite.run() == 1
    assert "ZeroDivisionError: on purpose" in capsys.readouterr().err
    assert "started again (2 of 2)" in suite.log("student")
    capsys.readouterr()
    assert suite.run() == 1
    shown = capsys.readouterr()
    assert "--retry-failed" in shown.err
    assert "submitted 0 runs" in shown.out
    assert suite.run("--retry-failed") == 0


def test_cancel(slow: Suite, whole: Suite, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Cancelled runs keep their saved state; the same command resumes them."""
    start(slow)
    assert slow.run("cancel") == 0
    assert "1 run told to save and end" in capsys.readouterr().out
    wait_for(lambda: not queue(), PATIENCE, "an empty queue")
    done = slow.epochs("student")
    finish(slow, tmp_path, whole)
    again = slow.log("student").split("started: job")[-1]
    assert f"epoch {done + 1}/12" in again
    assert "main epoch 1/12" not in again


@pytest.mark.parametrize(
    ("setting", "words"),
    [
        ("partition=nowhere", "invalid partition specified: nowhere"),
        ("time=61", "the limit of partition 'test', 60 minutes"),
        ("partitoin=test", "unrecognized option '--partitoin=test'.*did you mean 'partition'"),
        ("gpus_per_run=4", "node configuration is not available"),
    ],
)
def test_what_slurm_refuses(tmp_path: Path, setting: str, words: str, capsys: pytest.CaptureFixture[str]) -> None:
    """One line with Slurm's own words, before anything is submitted."""
    suite, before = Suite(tmp_path, *SLURM), queue()
    assert suite.run("--set", f"cluster.{setting}") == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert re.search(words, line)
    assert queue() <= before
    assert not list(suite.jobs.glob("batches/*.json"))


@pytest.mark.parametrize(
    ("ending", "said"),
    [("preempted", "SIGUSR2"), ("killed", "started again (1 of 2)"), ("failing", "ZeroDivisionError: on purpose")],
)
def test_a_run_of_two_processes(ending: str, said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Two tasks of one job, through submitit: preempted together inside an epoch, one killed, or one of them failing;
    they end as the same two processes do that this machine starts by itself."""
    changes: dict[str, Any] = SLOW | {"recipe": RECIPE | {"epochs": 12, "processes": 2}}
    inline = Suite(tmp_path / "inline", **changes)
    assert inline.run() == 0
    crashes = tmp_path / "crashes"
    crashes.mkdir()
    monkeypatch.setenv("CRASHES", str(crashes))
    monkeypatch.setenv("SLOW_UNTIL", str(tmp_path / "go"))
    suite = Suite(tmp_path / "slurm", *SLURM, **changes)
    job = start(suite)
    (script,) = [path.read_text() for path in suite.jobs.glob("*_submission.sh")]
    assert "--ntasks-per-node=2" in script
    if ending == "killed":
        for pid in second_tasks():
            os.kill(pid, signal.SIGKILL)
    elif ending == "failing":
        (crashes / "a").touch()  # for whichever of the two is first to see it
    else:
        output("scancel", "--signal=USR2", job)
    wait_for(lambda: said in suite.log("student"), PATIENCE, said)
    wait_for(lambda: starts(suite) == 2, PATIENCE, "the second start")
    (tmp_path / "go").touch()
    assert suite.run() == 0
    assert suite.metrics() == inline.metrics()


NODE = (
    *("--cluster", "slurm_node", "--set", "cluster.gpus_per_node=2", "cluster.runs_per_gpu=1", "cluster.time=30"),
    *("cluster.poll_seconds=0.5", "execution.threads=1"),
)


@pytest.mark.parametrize("ending", ["time limit", "cancel"])
def test_a_whole_node(
    ending: str, whole: Suite, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """One job, which runs a pool over the node's GPUs. The runs save before the time limit, and the job requeues
    itself. After cancel the job is gone, and the same command resumes."""
    monkeypatch.setenv("SLOW_UNTIL", str(tmp_path / "go"))
    suite = Suite(tmp_path, *NODE, **SLOW)
    for said in ("submitted 1 job of a whole node for 1 run", "submitted 0 jobs of a whole node for 0 runs; 1 are"):
        assert suite.run("--detach") == 0
        assert said in capsys.readouterr().out
    wait_for(lambda: suite.epochs("student") >= 1, PATIENCE, "an epoch")
    (job,) = queue()
    if ending == "cancel":
        assert suite.run("cancel") == 0
        wait_for(lambda: not queue(), PATIENCE, "an empty queue")
        wait_for(lambda: "interrupted" in next(iter(suite.state(capsys).values()))["why"], PATIENCE, "the run's end")
    else:
        output("scancel", "--signal=USR2", job)
        wait_for(lambda: starts(suite) == 2, PATIENCE, "the second start")
        assert queue() == {job}
    finish(suite, tmp_path, whole)
    wait_for(lambda: not queue(), PATIENCE, "an empty queue")
    assert not list((suite.jobs / "launchers").iterdir())


def test_jobs_that_could_never_start_take_the_new_limits(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The partition's limit is an hour: with 90 minutes, as where sinfo is not there to say so, jobs wait for ever."""

    def is_told() -> bool:
        return any("PartitionTimeLimit" in row["why"] for row in suite.state(capsys).values())

    suite = Suite(tmp_path, *SLURM, methods=["none", "kd"])
    with monkeypatch.context() as unasked:
        unasked.setattr("benchmarks.dispatch.slurm_jobs.check_time", lambda _: None)
        assert suite.run("--detach", "--set", "cluster.time=90") == 0
        wait_for(is_told, PATIENCE, "the reason")
    assert suite.run() == 0
    shown = capsys.readouterr().out
    assert "3 waiting jobs with outdated limits" in shown
    assert "submitted 3 runs" in shown
