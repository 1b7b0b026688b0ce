"""Processes that hold locks, as runs and launchers do, and a Slurm that says what a test wants."""

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from benchmarks.dispatch import slurm_queue
from benchmarks.dispatch.cluster import read_cluster
from benchmarks.dispatch.job import Job
from benchmarks.dispatch.retries import SlurmSubmission
from benchmarks.dispatch.slurm_queue import submission_file
from benchmarks.planning.plan import make_plan
from sskd.errors import UserError
from sskd.runs.files import this_process
from sskd.runs.spec import RunSpec
from tests import small

HOLDS = """
import fcntl, json, os, signal, sys
file = open(sys.argv[1], "a+")
fcntl.lockf(file, fcntl.LOCK_EX)
file.truncate(0)
file.write(json.dumps({"pid": os.getpid()} | json.loads(sys.argv[2])))
file.flush()
print("held", flush=True)
signal.pause()
"""
Holds = Callable[..., "subprocess.Popen[str]"]


@pytest.fixture
def holds() -> Iterator[Holds]:
    """Starts a process that holds a lock file, whose content says this host and user, or what the test wants."""
    started: list[subprocess.Popen[str]] = []

    def start(lock: Path, **content: Any) -> "subprocess.Popen[str]":
        lock.parent.mkdir(parents=True, exist_ok=True)
        said = {name: value for name, value in this_process()._asdict().items() if name != "pid"} | content
        command = [sys.executable, "-S", "-c", HOLDS, str(lock), json.dumps(said)]
        process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        started.append(process)
        assert process.stdout is not None
        assert process.stdout.readline() == "held\n"
        return process

    yield start
    for process in started:
        process.kill()
        process.communicate()


def submitted(jobs: Path, name: str, *ids: str, **changes: Any) -> None:
    """Notes a submission, as run_all.py does before its jobs are in the queue."""
    noted = SlurmSubmission(jobs.parent / "runs", list(ids), 0, this_process().user, {})
    noted._replace(**changes).save(submission_file(jobs, name))


def asked_of_slurm(
    monkeypatch: pytest.MonkeyPatch,
    queue: dict[str, str],
    limits: str = "",
    refused: str = "",
    silent: bool = False,
) -> list[tuple[str, ...]]:
    """Slurm as the queue has it; the commands that it was asked with. sinfo prints ``limits``; scancel takes jobs off
    the queue, or refuses. A silent one answers nothing."""
    commands: list[tuple[str, ...]] = []

    def answer(*command: str) -> str:
        commands.append(command)
        if silent or (command[0] == "scancel" and refused):
            raise UserError(refused or "squeue failed: Unable to contact slurm controller")
        if command[0] == "sinfo":
            return limits
        for job in command[1:] if command[0] == "scancel" else ():
            queue.pop(job, None)
        return "\n".join(queue.values())

    monkeypatch.setattr(slurm_queue, "slurm", answer)
    return commands


def job(number: str, name: str = "sskd-b", state: str = "RUNNING", reason: str = "None") -> dict[str, str]:
    """A line of squeue, by the job's number."""
    return {number: f"{number}|{state}|{reason}|{name}"}


def job_in(folder: Path, *wanted: RunSpec, cluster: str = "inline", settings: Sequence[str] = ()) -> Job:
    """A job of these runs, and of what they need, whose runs and jobs lie in the folder."""
    return Job(make_plan(wanted), folder / "runs", small.EXECUTION, read_cluster(cluster, list(settings)))


def set_age(path: Path, seconds: float) -> None:
    now = os.stat(path).st_mtime
    os.utime(path, (now - seconds, now - seconds))
