"""Local processes: the numbers of one process, also after a kill; claims shared with other command lines."""

import json
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
import torch

from benchmarks.dispatch import local
from benchmarks.dispatch.cluster import read_cluster
from benchmarks.dispatch.local import Place, ProcessSlot
from benchmarks.dispatch.mps import Sharing
from benchmarks.dispatch.run_lock import LockHolder, RunLocks
from benchmarks.dispatch.scheduler import schedule
from benchmarks.dispatch.work import Work
from benchmarks.dispatch.worker import is_out_of_memory
from benchmarks.planning.plan import make_plan
from sskd.console.progress import Progress
from sskd.console.signals import StopSignal
from tests import small
from tests.cluster.slurm_site import wait_for
from tests.cluster.suite import SLOW, Suite

LOCAL = ("--cluster", "local", "--set", "cluster.cpus_per_run=1", "execution.threads=1")
PATIENCE = 120.0


def test_what_is_out_of_memory() -> None:
    assert is_out_of_memory(torch.OutOfMemoryError("CUDA out of memory"))
    assert is_out_of_memory(RuntimeError("[enforce fail] DefaultCPUAllocator: not enough memory"))
    assert not is_out_of_memory(RuntimeError("shapes do not fit"))


def test_a_second_interrupt_ends_at_once() -> None:
    stop = StopSignal()
    stop.receive(signal.SIGINT, None)
    assert stop()
    with pytest.raises(KeyboardInterrupt):
        stop.receive(signal.SIGINT, None)


def test_status_of_a_suite_that_another_process_runs(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    suite = Suite(tmp_path, methods=["none"])
    assert {row["state"] for row in suite.state(capsys).values()} == {"to do"}
    assert suite.run("--only", "comparison") == 0
    capsys.readouterr()
    assert suite.run("status") == 0
    assert capsys.readouterr().out == "comparison: 1 finished\n"
    student = suite.folder("student")
    (student / "result.json").unlink()
    locks = RunLocks(suite.jobs / "claims")
    assert locks.acquire(student.name, LockHolder(), lambda _: True)
    row = suite.state(capsys)[student.name]
    assert row["state"] == "running"
    assert row["epochs"] == 2
    assert row["log"] == str(student / "log.txt")
    locks.delete(student.name)
    assert "interrupted" in suite.state(capsys)[student.name]["why"]


def test_a_failed_need_is_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    suite = Suite(tmp_path, methods=["sskd"])
    change = ("--set", "head_recipe={learning_rate: 1000, weight_decay: 100, epochs: 12, batch_size: 16}")
    assert suite.run(*change) == 2
    head = suite.folder("head").name
    suite.run("status", *change)
    assert f"not started: it needs {head}, which failed" in capsys.readouterr().out


def test_waits_for_what_another_has_claimed(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Neither trained twice nor forgotten: when the other gives a run back, it is trained."""
    suite = Suite(tmp_path, "--set", "cluster.poll_seconds=0.1", methods=["none"])
    suite.run("plan", "--json")
    ids = [row["id"] for row in json.loads(capsys.readouterr().out)["runs"]]
    student = next(run for run in ids if "student" in run)
    locks, other = RunLocks(suite.jobs / "claims"), LockHolder()
    assert locks.acquire(student, other, lambda _: True)
    timer = threading.Timer(2.0, locks.release, (student, other.token))
    timer.start()
    started = time.monotonic()
    assert suite.run() == 0
    assert time.monotonic() - started >= 2.0
    assert "has it; waiting" in capsys.readouterr().out


HOLD = """
import sys, yaml
from pathlib import Path
from sskd.runs.spec import parse_spec
from sskd.runs.run_folder import RunFolder
spec = parse_spec(yaml.safe_load(Path(sys.argv[1]).read_text()), "a test")
with RunFolder(Path(sys.argv[2]), spec).held():
    print("held", flush=True)
    sys.stdin.read()
"""


def test_waits_for_what_a_process_without_a_claim_trains(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """As python -m sskd train does: it is waited for, and seen by status; killed, the run is trained here."""
    suite = Suite(tmp_path, "--only", "comparison", "--set", "cluster.poll_seconds=0.1", methods=["none"])
    assert suite.run() == 0
    student = suite.folder("student")
    (student / "result.json").unlink()
    command = [sys.executable, "-c", HOLD, str(student / "spec.yaml"), str(suite.runs)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as other:
        assert other.stdout is not None
        assert other.stdout.readline() == "held\n"
        row = suite.state(capsys)[student.name]
        assert (row["state"], row["job"]) == ("running", f"process {other.pid} on {socket.gethostname()}")
        timer = threading.Timer(2.0, other.kill)
        timer.start()
        started = time.monotonic()
        assert suite.run() == 0
        assert time.monotonic() - started >= 2.0
    assert f"process {other.pid} on {socket.gethostname()} has it; waiting" in capsys.readouterr().out
    assert not list((suite.jobs / "claims").iterdir())
    assert suite.state(capsys)[student.name]["state"] == "finished"


@pytest.mark.slow
def test_local_processes_and_a_kill(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Two slow students, one killed: it is started again, and both have the metrics of one process."""
    changes: dict[str, Any] = SLOW | {"seeds": [0, 1]}
    whole = Suite(tmp_path / "whole", **changes)
    assert whole.run() == 0
    monkeypatch.setenv("SLOW_UNTIL", str(tmp_path / "go"))
    suite = Suite(tmp_path / "local", *LOCAL, **changes)
    command = [sys.executable, "run_all.py", *suite.command()]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    wait_for(lambda: suite.epochs("slow-digits-s1") >= 1, PATIENCE, "the student's epochs")
    student = suite.folder("slow-digits-s1").name
    holder = RunLocks(suite.jobs / "claims").holder(student)
    assert holder is not None
    os.kill(holder.pid, signal.SIGKILL)
    wait_for(lambda: "(lost 1 of 3)" in suite.log("slow-digits-s1"), PATIENCE, "the second start")
    (tmp_path / "go").touch()
    text, _ = process.communicate(timeout=2 * PATIENCE)
    assert process.returncode == 0, text
    assert suite.metrics() == whole.metrics()


@pytest.mark.slow
def test_detached_status_and_cancel(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any) -> None:
    """In the background; cancelled, it saves inside the epoch; the same command then goes on from there."""
    monkeypatch.setenv("SLOW_UNTIL", str(tmp_path / "go"))
    suite = Suite(tmp_path, *LOCAL, **SLOW)
    assert suite.run("--detach") == 0
    wait_for(lambda: suite.epochs("student") >= 1, PATIENCE, "the student's epochs")
    row = next(row for name, row in suite.state(capsys).items() if "student" in name)
    assert row["state"] == "running"
    assert row["images_per_second"] > 0
    assert suite.run("cancel") == 0
    wait_for(lambda: "SIGTERM" in suite.log("student"), PATIENCE, "the student's end")
    wait_for(lambda: "stopped" in (suite.jobs / "launcher.log").read_text(), PATIENCE, "the launcher's end")
    done = suite.epochs("student")
    (tmp_path / "go").touch()
    assert suite.run() == 0
    assert f"epoch {done + 1}/12" in suite.log("student").split("started: job")[-1]


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


@pytest.mark.parametrize(
    "error", [EOFError("unexpected EOF"), ConnectionRefusedError(), BrokenPipeError(), ConnectionResetError()]
)
def test_a_run_whose_fork_server_was_killed_is_lost_and_tried_again(
    error: Exception, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    spec = small.spec(small.teacher())
    work = Work(make_plan([spec]), tmp_path / "runs", small.EXECUTION, read_cluster("side_by_side", []))
    monkeypatch.setattr(local, "start_fork_server", lambda: None)
    context = ContextOf(error)
    slot = ProcessSlot(work, Place(1), context, tmp_path / "log", Sharing())
    slot.start(spec, LockHolder(), StopSignal())
    assert slot.ended()
    slot.terminate()  # nothing is there that could be ended
    slot.kill()
    assert slot.failure is None
    slot.start(spec, LockHolder(), StopSignal())
    assert context.started == 1
    assert slot.ended()


def test_interrupted_while_a_process_is_started_nothing_is_left_to_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    spec = small.spec(small.teacher())
    work = Work(make_plan([spec]), tmp_path / "runs", small.EXECUTION, read_cluster("side_by_side", []))

    def interrupted() -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(local, "start_fork_server", interrupted)
    slot = ProcessSlot(work, Place(1), ContextOf(), tmp_path / "log", Sharing())
    with Progress(1) as progress, pytest.raises(KeyboardInterrupt):
        schedule(work, progress, [slot])
    assert work.locks.holder(spec.id) is None


def test_a_process_goes_on_when_the_fork_server_is_killed(tmp_path: Path) -> None:
    """Its end is then told by its pipe, and not by a status that nobody knows."""
    slot = ProcessSlot(
        Work(make_plan([]), tmp_path, small.EXECUTION, read_cluster("side_by_side", [])),
        Place(1),
        None,
        tmp_path,
        Sharing(),
    )
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
    process = subprocess.Popen(
        [sys.executable, "run_all.py", *suite.command()],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    assert process.stdout is not None
    while "finished already" not in process.stdout.readline():
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
