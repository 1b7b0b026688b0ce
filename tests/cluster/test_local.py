"""Local processes: the numbers of one process, also after a kill; claims shared with other command lines."""

import multiprocessing
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from benchmarks.dispatch import local
from benchmarks.dispatch.local import ProcessSlot, RunResources
from benchmarks.dispatch.scheduler import schedule
from sskd.console.progress import Progress
from sskd.console.signals import StopSignal
from sskd.mps import Sharing
from sskd.runs.files import lock_holder
from tests import small
from tests.cluster.holding import Holds, job_in
from tests.cluster.slurm_site import wait_for
from tests.cluster.suite import SLOW, Suite

LOCAL = ("--cluster", "local", "--set", "cluster.runs_at_once=2", "cluster.cpus_per_run=1", "execution.threads=1")
PATIENCE = 120.0


def test_waits_for_what_another_process_trains(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], holds: Holds
) -> None:
    """The other process is python -m sskd train. The suite waits for it, and status shows it; when it is killed, the
    suite trains the run."""
    suite = Suite(tmp_path, "--only", "comparison", "--set", "cluster.poll_seconds=0.1", methods=["none"])
    assert {row["state"] for row in suite.state(capsys).values()} == {"to do"}
    (student,) = suite.state(capsys)
    other = holds(suite.runs / student / "train.lock")
    row = suite.state(capsys)[student]
    assert (row["state"], row["job"]) == ("running", f"pid {other.pid} on {socket.gethostname()}")
    assert row["epochs"] == 2
    timer = threading.Timer(1.0, other.kill)
    timer.start()
    started = time.monotonic()
    assert suite.run() == 0
    assert time.monotonic() - started >= 1.0
    assert f"process {other.pid} of " in capsys.readouterr().out
    assert suite.run("status") == 0
    assert capsys.readouterr().out == "comparison: 1 finished\n"
    (suite.runs / student / "result.json").unlink()
    assert "interrupted" in suite.state(capsys)[student]["why"]


@pytest.mark.slow
@pytest.mark.parametrize(("ending", "status"), [("Ctrl-C", 130), ("cancel", 0), ("kill", 0)])
def test_local_processes_that_end_early(
    ending: str, status: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Two slow students: both save inside their epoch and the same command goes on there, or the killed one is started
    again. Then both have the metrics of one process."""
    changes: dict[str, Any] = SLOW | {"seeds": [0, 1]}
    whole = Suite(tmp_path / "whole", **changes)
    assert whole.run() == 0
    monkeypatch.setenv("SLOW_UNTIL", str(tmp_path / "go"))
    suite, runs = Suite(tmp_path / "local", *LOCAL, **changes), ("slow-digits-s0", "slow-digits-s1")
    command = [sys.executable, "run_all.py", *suite.command(*["--detach"] * (ending == "cancel"))]
    pipe, joined = subprocess.PIPE, subprocess.STDOUT
    process = subprocess.Popen(command, stdout=pipe, stderr=joined, text=True, start_new_session=True)
    wait_for(lambda: all(suite.epochs(run) >= 1 for run in runs), PATIENCE, "the students' epochs")
    if ending == "kill":
        holder = lock_holder(suite.folder(runs[1]) / "train.lock")
        assert holder is not None
        os.kill(holder.pid, signal.SIGKILL)
        wait_for(lambda: "started again (1 of 2)" in suite.log(runs[1]), PATIENCE, "the second start")
        (tmp_path / "go").touch()
    elif ending == "cancel":
        assert all(row["images_per_second"] > 0 for row in suite.state(capsys).values())
        assert suite.run("cancel") == 0
        wait_for(lambda: "stopped" in (suite.jobs / "launcher.log").read_text(), PATIENCE, "the launcher's end")
    else:
        os.killpg(process.pid, signal.SIGINT)
    text, _ = process.communicate(timeout=2 * PATIENCE)
    assert process.returncode == status, text
    assert "Traceback" not in text
    if ending != "kill":
        done = {run: suite.epochs(run) for run in runs}
        assert all("SIGTERM" in suite.log(run) for run in runs)
        assert not list(suite.runs.glob("*/failed.json"))
        (tmp_path / "go").touch()
        assert suite.run() == 0
        assert all(f"epoch {done[run] + 1}/12" in suite.log(run).split("started: job")[-1] for run in runs)
    assert suite.metrics() == whole.metrics()


# --- the beginning: while the process that runs are forked from imports torch ----------------------------------------


class ContextOf:
    """Stands for multiprocessing's: processes whose start fails as often as the list says."""

    def __init__(self, *errors: Exception) -> None:
        self.errors = list(errors)
        self.started = 0

    def Pipe(self, duplex: bool) -> tuple[Any, Any]:
        return multiprocessing.Pipe(duplex)

    def Process(self, **_: Any) -> Any:
        context = self

        class Process:
            exitcode, pid = 0, 2**30

            def start(self) -> None:
                if context.errors:
                    raise context.errors.pop()
                context.started += 1

        return Process()


@pytest.mark.parametrize("error", [EOFError("unexpected EOF"), ConnectionRefusedError()])
def test_a_run_whose_fork_server_was_killed_is_lost_and_tried_again(
    error: Exception, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    spec = small.spec(small.teacher())
    job = job_in(tmp_path, spec, cluster="side_by_side")
    monkeypatch.setattr(local, "start_fork_server", lambda: None)
    context = ContextOf(error)
    slot = ProcessSlot(job, RunResources(1), context, Sharing())
    slot.start(spec, StopSignal())
    assert slot.ended()
    slot.terminate()  # nothing is there that could be ended
    slot.kill()
    assert slot.failure is None
    slot.start(spec, StopSignal())
    assert context.started == 1
    assert slot.ended()


def test_interrupted_while_a_process_is_started_nothing_is_left_to_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    spec = small.spec(small.teacher())
    job = job_in(tmp_path, spec, cluster="side_by_side")

    def interrupted() -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(local, "start_fork_server", interrupted)
    slot = ProcessSlot(job, RunResources(1), ContextOf(), Sharing())
    with Progress(1) as progress, pytest.raises(KeyboardInterrupt):
        schedule(job, progress, [slot])


def test_a_process_goes_on_when_the_fork_server_is_killed(tmp_path: Path) -> None:
    """The pipe then tells that the process ended, because its exit status is unknown."""
    job = job_in(tmp_path)
    slot = ProcessSlot(job, RunResources(1), None, Sharing())
    process = subprocess.Popen(["sleep", "60"])
    slot._answer, says = multiprocessing.Pipe(duplex=False)
    slot._process = SimpleNamespace(exitcode=local.FORGOTTEN, pid=process.pid)
    assert not slot.ended()
    slot.terminate()
    assert process.wait(10) == -signal.SIGTERM
    says.close()
    assert slot.ended()
    slot._answer, says = multiprocessing.Pipe(duplex=False)  # held open by what a killed process has started
    slot._process = SimpleNamespace(exitcode=-signal.SIGKILL, pid=process.pid)
    assert slot.ended()
    assert slot.failure is None


@pytest.mark.slow
@pytest.mark.parametrize(
    ("what", "status"), [("Ctrl-C", 130), ("SIGTERM", 143), ("hangup", 129), ("fork server killed", 0)]
)
def test_ended_right_after_the_plan(what: str, status: int, tmp_path: Path) -> None:
    suite = Suite(tmp_path, "--cluster", "side_by_side", "--set", "cluster.runs_at_once=2", methods=["none"])
    command, pipe = [sys.executable, "run_all.py", *suite.command()], subprocess.PIPE
    process = subprocess.Popen(  # under nohup, this process ignores hangups, and so would that one
        command, stdout=pipe, stderr=pipe, text=True, start_new_session=True,
        preexec_fn=lambda: signal.signal(signal.SIGHUP, signal.SIG_DFL),
    )  # fmt: skip
    assert process.stdout is not None
    while "of them finished" not in process.stdout.readline():
        assert process.poll() is None
    servers: list[str] = []
    while not servers:
        command = ["pgrep", "-P", str(process.pid), "-f", "forkserver"]
        servers = subprocess.run(command, capture_output=True, text=True).stdout.split()
    if what == "fork server killed":
        os.kill(int(servers[0]), signal.SIGKILL)
    elif what == "SIGTERM":
        process.terminate()
    else:
        os.killpg(process.pid, signal.SIGINT if what == "Ctrl-C" else signal.SIGHUP)
    said, errors = process.communicate(timeout=2 * PATIENCE)
    assert process.returncode == status, errors
    assert "Traceback" not in said + errors
    assert len(errors.strip().splitlines()) == (1 if status else 0)
