"""Launchers: the processes that execute jobs in a results folder. Watchers use them to see whether more runs will
start.

Each launcher holds the lock of its own file in jobs/launchers, which lists its runs. Deleting the file tells it to end,
on any host.
"""

import os
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import NamedTuple

from benchmarks.dispatch.job import Job
from sskd.errors import UserError
from sskd.runs.files import Holder, Locked, hold, holder_of, read_lock, this_process, write_json
from sskd.runtime.machine import host


class Launcher(NamedTuple):
    """A process that executes a job, or waits for Slurm to execute it."""

    file: Path
    holder: Holder
    runs: frozenset[str]  # runs of its plan
    starts: bool  # whether it starts them itself, instead of Slurm
    began: bool  # whether it holds its lock; a background process imports torch first

    def cancel(self) -> None:
        """Tells the launcher to save and end its runs. Raises UserError if the file cannot be deleted."""
        try:
            self.file.unlink(missing_ok=True)
        except OSError as error:
            raise UserError(f"{self.holder} cannot be told to end: {error.strerror}") from None


@contextmanager
def launching(job: Job, starts: bool = True) -> Iterator[Callable[[], bool]]:
    """Registers this process as a launcher within the block. Yields a function that returns True if it should end. If
    it cannot be registered, the only effect is that watchers may stop too early."""
    file = _file(job, os.getpid())
    with ExitStack() as stack:
        with suppress(OSError, UserError, Locked):
            file.parent.mkdir(parents=True, exist_ok=True)
            stack.enter_context(hold(file, _note(job, starts)))
        noted = file.exists()
        yield lambda: noted and not file.exists()


def note_background(job: Job, pid: int) -> None:
    """Registers a process in the background until it registers itself."""
    with suppress(OSError, UserError):
        file = _file(job, pid)
        file.parent.mkdir(parents=True, exist_ok=True)
        write_json(file, _note(job, True) | this_process()._asdict() | {"pid": pid, "born": process_birth(pid)})


def launchers(jobs: Path) -> list[Launcher]:
    """Returns the living launchers except this process, which would lose its lock by reading its own file (POSIX record
    locks)."""
    found = []
    for file in sorted((jobs / "launchers").glob("*.json")):
        if file.stem == f"{host()}-{os.getpid()}":
            continue
        held, said = read_lock(file)
        runs, holder = said.get("runs"), holder_of(said)
        if not isinstance(runs, list):  # written by an earlier version, or on a full disk
            continue
        if held or (holder.host == host() and process_birth(holder.pid) == said.get("born", "none")):
            found.append(Launcher(file, holder, frozenset(map(str, runs)), said.get("starts") is True, held))
    return found


def planned_by(found: Iterable[Launcher]) -> set[str]:
    """Returns the runs that the launchers start or will start."""
    return {run_id for launcher in found if launcher.starts for run_id in launcher.runs}


def process_birth(pid: int) -> str:
    """Returns the start time of a process, in clock ticks since boot, which distinguishes processes with the same
    number; "" if there is no such process."""
    try:
        return Path(f"/proc/{pid}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()[19]
    except OSError:
        return ""


def _file(job: Job, pid: int) -> Path:
    return job.jobs_folder / "launchers" / f"{host()}-{pid}.json"


def _note(job: Job, starts: bool) -> dict[str, object]:
    return {"runs": [spec.id for spec in job.plan.runs], "starts": starts}
