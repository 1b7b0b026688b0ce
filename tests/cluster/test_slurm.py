"""Tests the failures of docs/reliability.md on a real Slurm with one node."""

import json
import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from benchmarks.dispatch.retries import read_slurm_submission
from sskd.runs.files import Holder, lock_holder
from tests.cluster.slurm_site import SlurmSite, missing, output, wait_for
from tests.cluster.suite import RECIPE, SLOW, Suite
from tests.cluster.test_same_code import checkout

pytestmark = [pytest.mark.slurm, pytest.mark.skipif(bool(missing()), reason=missing())]

SETTINGS = (
    *("cluster.gpus_per_run=0", "cluster.cpus_per_run=1", "cluster.mem_gb=0.4", "cluster.time=30"),
    *("cluster.poll_seconds=0.5", "cluster.array_width=2", "execution.threads=1"),
)
SLURM = ("--cluster", "slurm", "--set", *SETTINGS)
PATIENCE = 150.0  # seconds: a start takes two on a quiet machine, and twenty on one that is not


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SlurmSite]:
    environment = dict(os.environ)
    site = SlurmSite(tmp_path_factory.mktemp("slurm"))
    try:
        site.start()
        yield site
    finally:
        site.stop()
        os.environ.clear()
        os.environ.update(environment)


@pytest.fixture(autouse=True)
def _quiet(site: SlurmSite) -> Iterator[None]:
    """Ends all jobs after each test, so that the next one starts with an empty queue and an idle node."""
    yield
    output("scancel", "-u", "root")
    wait_for(lambda: not queue() and output("sinfo", "-h", "-o", "%t").strip() == "idle", PATIENCE, "an idle node")


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Suite:
    """The slow suite, undisturbed and in this process."""
    suite = Suite(tmp_path_factory.mktemp("whole"), **SLOW)
    assert suite.run("--seeds", "0,1,2") == 0
    return suite


@pytest.fixture
def slow(site: SlurmSite, whole: Suite, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Suite:
    """The slow suite, to be run on Slurm."""
    monkeypatch.setenv("SLOW_UNTIL", str(tmp_path / "go"))
    return Suite(tmp_path, *SLURM, **SLOW)


def start(suite: Suite, epochs: int = 1, *options: str) -> str:
    """Submits the suite and waits until its student has done some epochs; the student's job."""
    assert suite.run("--detach", *options) == 0
    wait_for(lambda: suite.epochs("student") >= epochs, PATIENCE, "the student's epochs")
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


def second_tasks() -> list[int]:
    """The processes of submitit that are the second of their job. Others, of no job, may end meanwhile."""

    def second(pid: str) -> bool:
        with suppress(OSError):
            return b"SLURM_PROCID=1" in Path(f"/proc/{pid}/environ").read_bytes()
        return False

    return [int(pid) for pid in output("pgrep", "-f", "submitit.core._submit").split() if second(pid)]


def queue() -> set[str]:
    return set(output("squeue", "-h", "-o", "%i").split())


def submitted(suite: Suite) -> list[str]:
    """Every run of every array that was submitted."""
    return sorted(run for path in (suite.jobs / "batches").glob("*.json") for run in read_slurm_submission(path).ids)


def test_arrays_with_dependencies(site: SlurmSite, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Submitted and left; a second run_all submits nothing; the report is made by a third, and is an inline run's."""
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


def test_two_at_once(site: SlurmSite, tmp_path: Path) -> None:
    suite = Suite(tmp_path, *SLURM, methods=["none", "kd"])
    command = [sys.executable, "run_all.py", *suite.command()]
    both = [subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True) for _ in range(2)]
    for process in both:
        text, _ = process.communicate(timeout=2 * PATIENCE)
        assert process.returncode == 0, text
    assert len(submitted(suite)) == len(set(submitted(suite))) == 3


def test_time_limit(slow: Suite, whole: Suite, tmp_path: Path) -> None:
    """The signal comes before the limit of one minute; the run saves, requeues itself, and goes on."""
    start(slow, 1, "--set", "cluster.time=0:01:00", "cluster.signal_seconds=35")
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
    assert len(submitted(slow)) == 1


def test_a_dependency_that_fails(site: SlurmSite, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
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
    site: SlurmSite, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
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
    assert "interrupted" in next(row for name, row in slow.state(capsys).items() if "student" in name)["why"]
    done = slow.epochs("student")
    (tmp_path / "go").touch()
    assert slow.run() == 0
    assert f"epoch {done + 1}/12" in slow.log("student")
    assert "main epoch 1/12" not in slow.log("student").split("started: job")[-1]
    assert slow.metrics().items() <= whole.metrics().items()


def test_full_disk(
    site: SlurmSite, whole: Suite, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A real small disk that fills up: the message says so, and with space again the run ends as it should."""
    monkeypatch.delenv("SLOW_UNTIL", raising=False)
    disk = tmp_path / "disk"
    disk.mkdir()
    assert not output("mount", "-t", "tmpfs", "-o", "size=12m", "tmpfs", str(disk))
    try:
        suite = Suite(disk, *SLURM, "cluster.retries=0", **SLOW)
        ballast = disk / "ballast"
        free = os.statvfs(disk).f_bavail * os.statvfs(disk).f_frsize
        ballast.write_bytes(bytes(free - 250_000))
        assert suite.run() in (1, 2)
        said = output("sh", "-c", f"cat {suite.jobs}/*.out {suite.runs}/*/failed.json")
        assert "No space left on device" in said or "the disk is full" in said
        assert not (suite.folder("student") / "result.json").exists()
        ballast.unlink()
        assert suite.run("--retry-failed") == 0
        assert suite.metrics().items() <= whole.metrics().items()
    finally:
        output("umount", "-l", str(disk))


@pytest.mark.parametrize(
    ("setting", "words"),
    [
        ("cluster.partition=nowhere", "invalid partition specified: nowhere"),
        ("cluster.time=soon", "not a time limit"),
        ("cluster.time=61", "the limit of partition 'test', 60 minutes"),
        ("cluster.partitoin=test", "unrecognized option '--partitoin=test'.*did you mean 'partition'"),
        ("cluster.gpus_per_run=4", "node configuration is not available"),
    ],
)
def test_what_slurm_refuses(
    site: SlurmSite, tmp_path: Path, setting: str, words: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """One line with Slurm's own words, before anything is submitted or claimed."""
    suite, before = Suite(tmp_path, *SLURM), queue()
    assert suite.run("--set", setting) == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1
    assert re.search(words, error), error
    assert queue() <= before
    assert not list(suite.jobs.glob("batches/*.json"))


@pytest.mark.parametrize("ending", ["time limit", "kill", "exception"])
def test_a_run_of_two_processes(
    ending: str, site: SlurmSite, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Two tasks of one job, through submitit: preempted together inside an epoch, one killed, or one of them failing;
    they end as the same two processes do that this machine starts by itself."""
    recipe = RECIPE | {"epochs": 12, "processes": 2}
    changes: dict[str, Any] = SLOW | {"recipe": recipe}
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
    if ending == "kill":
        tasks = second_tasks()
        assert tasks
        for pid in tasks:
            os.kill(pid, signal.SIGKILL)
        wait_for(lambda: "started again (1 of 2)" in suite.log("student"), PATIENCE, "the retry")
    elif ending == "exception":
        (crashes / "a").touch()  # for whichever of the two is first to see it
        wait_for(lambda: "ZeroDivisionError: on purpose" in suite.log("student"), PATIENCE, "the exception")
        wait_for(lambda: "started again (1 of 2)" in suite.log("student"), PATIENCE, "the retry")
    else:
        output("scancel", "--signal=USR2", job)
        wait_for(lambda: "SIGUSR2" in suite.log("student"), PATIENCE, "the signal")
    wait_for(lambda: starts(suite) == 2, PATIENCE, "the second start")
    (tmp_path / "go").touch()
    assert suite.run() == 0
    assert suite.metrics() == inline.metrics()


NODE = (
    *("--cluster", "slurm_node", "--set", "cluster.gpus_per_node=2", "cluster.runs_per_gpu=1", "cluster.time=30"),
    *("cluster.poll_seconds=0.5", "execution.threads=1"),
)


def test_a_whole_node(site: SlurmSite, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """One job, which runs a pool over the node's GPUs; what it trains is what an inline run does."""
    suite = Suite(tmp_path / "slurm", *NODE)
    assert suite.run("--detach") == 0
    assert "submitted 1 job of a whole node for 5 runs" in capsys.readouterr().out
    assert suite.run("--detach") == 0
    assert "submitted 0 jobs of a whole node for 0 runs; 5 are already in the queue" in capsys.readouterr().out
    wait_for(lambda: any(row["state"] == "running" for row in suite.state(capsys).values()), PATIENCE, "a run")
    assert suite.run() == 0
    inline = Suite(tmp_path / "inline")
    assert inline.run() == 0
    assert suite.metrics() == inline.metrics()
    assert {row["state"] for row in suite.state(capsys).values()} == {"finished"}
    wait_for(lambda: not queue(), PATIENCE, "an empty queue")
    assert not list((suite.jobs / "launchers").iterdir())


@pytest.mark.parametrize("ending", ["time limit", "cancel"])
def test_a_whole_node_that_ends_early(
    ending: str,
    site: SlurmSite,
    whole: Suite,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """The runs save before the time limit, and the job requeues itself. After cancel the job is gone, and the same
    command resumes."""
    monkeypatch.setenv("SLOW_UNTIL", str(tmp_path / "go"))
    suite = Suite(tmp_path, *NODE, **SLOW)
    assert suite.run("--detach") == 0
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


def test_jobs_that_could_never_start_take_the_new_limits(
    site: SlurmSite, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The partition's limit is an hour: with 90 minutes, as where sinfo is not there to say so, jobs wait for ever."""
    suite = Suite(tmp_path, *SLURM, methods=["none", "kd"])
    with monkeypatch.context() as unasked:
        unasked.setattr("benchmarks.dispatch.slurm_jobs.check_time", lambda _: None)
        assert suite.run("--detach", "--set", "cluster.time=90") == 0
        wait_for(
            lambda: any("PartitionTimeLimit" in row["why"] for row in suite.state(capsys).values()),
            PATIENCE,
            "the reason",
        )
    assert suite.run("--detach") == 0
    shown = capsys.readouterr().out
    assert "3 waiting jobs with outdated limits" in shown
    assert "submitted 3 runs" in shown
    assert suite.run() == 0


def test_jobs_train_with_the_suites_own_checkout(site: SlurmSite, tmp_path: Path) -> None:
    """Another one is installed, and lies where the command was given."""
    own, other = checkout(tmp_path / "own", "own"), checkout(tmp_path / "other", "other")
    suite = Suite(tmp_path / "suite", *SLURM, methods=["none"])
    command = [sys.executable, str(own / "run_all.py"), *suite.command("--only", "comparison")]
    environment = os.environ | {"PYTHONPATH": str(other)}
    done = subprocess.run(command, cwd=other, env=environment, capture_output=True, encoding="utf-8")
    assert done.returncode == 0, done.stderr
    (result,) = suite.runs.glob("*/result.json")
    assert json.loads(result.read_text(encoding="utf-8"))["machine"]["version"] == "own"
