"""Local processes: the numbers of one process, also after a kill; claims shared with other command lines."""

import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import pytest
import torch

from benchmarks.dispatch.run_lock import LockHolder, RunLocks
from benchmarks.dispatch.worker import is_out_of_memory
from sskd.training.signals import StopSignal
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
    assert suite.run("--status") == 0
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
    change = ("--set", "head_recipe.learning_rate=1e30")
    assert suite.run(*change) == 2
    head = suite.folder("head").name
    suite.run(*change, "--status")
    assert f"not started: it needs {head}, which failed" in capsys.readouterr().out


def test_waits_for_what_another_has_claimed(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Neither trained twice nor forgotten: when the other gives a run back, it is trained."""
    suite = Suite(tmp_path, "--set", "cluster.poll_seconds=0.1", methods=["none"])
    suite.run("--dry-run", "--json")
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
    """As python -m sskd train does: it is waited for, and seen by --status; killed, the run is trained here."""
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
    assert suite.run("--cancel") == 0
    wait_for(lambda: "SIGTERM" in suite.log("student"), PATIENCE, "the student's end")
    wait_for(lambda: "stopped" in (suite.jobs / "launcher.log").read_text(), PATIENCE, "the launcher's end")
    done = suite.epochs("student")
    (tmp_path / "go").touch()
    assert suite.run() == 0
    assert f"epoch {done + 1}/12" in suite.log("student").split("started: job")[-1]
