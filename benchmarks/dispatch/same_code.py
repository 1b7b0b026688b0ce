"""Ensures that all processes of a suite run the same code: they are told where it is, and refuse to train with other
code.

Several checkouts and an installed package may exist on one machine, and Python searches the working folder first, so a
process could otherwise import another copy.
"""

import os
import signal
import subprocess
import sys
from multiprocessing import forkserver, resource_tracker
from pathlib import Path
from typing import NamedTuple

import benchmarks
from sskd.errors import UserError
from sskd.paths import CLONE, PACKAGE
from sskd.version import CODE, code

IMPORTED_FROM = PACKAGE.parent  # folder on sys.path with this code


class Code(NamedTuple):
    """Folders of the two packages that a process has imported, and their commit."""

    sskd: str
    benchmarks: str
    commit: str | None


def this_code() -> Code:
    """Returns the code that this process has imported."""
    return Code(str(PACKAGE), str(Path(benchmarks.__path__[0]).resolve()), code()["commit"])


def refuse_other_code(wanted: Code) -> None:
    """Raises UserError if this process has imported other code than the suite."""
    here = this_code()
    for name in ("sskd", "benchmarks"):
        if getattr(here, name) != getattr(wanted, name):
            raise UserError(
                f"this process would train with other code than the suite: it imports {name} from "
                f"{getattr(here, name)}, the suite from {getattr(wanted, name)}; unset PYTHONPATH or start it elsewhere"
            )
    if here.commit != wanted.commit and not _equal_code(wanted.commit, here.commit):
        raise UserError(
            f"the code has changed since the suite was started: commit {_short(here.commit)} is in "
            f"{IMPORTED_FROM}, expected {_short(wanted.commit)}; start the same command again"
        )


def _equal_code(one: str | None, other: str | None) -> bool:
    """Returns True if the executed code of two commits is equal."""
    if CLONE is None or one is None or other is None:
        return False
    done = subprocess.run(
        ["git", "-C", str(CLONE), "diff", "--quiet", one, other, "--", *CODE], capture_output=True, check=False
    )
    return done.returncode == 0


def _short(commit: str | None) -> str:
    return commit[:12] if commit else "unknown"


def shell_lines() -> list[str]:
    """Returns shell commands that make Python import this code and nothing from the working folder. (Before Python 3.11
    the working folder cannot be excluded; ``refuse_other_code`` then reports it.)"""
    path = str(IMPORTED_FROM).replace("'", "'\\''")
    return [f"export PYTHONPATH='{path}'${{PYTHONPATH:+:$PYTHONPATH}}", "export PYTHONSAFEPATH=1"]


def python_that(statements: str) -> list[str]:
    """Returns a command that executes ``statements`` in a Python with this process's import path."""
    return [sys.executable, "-c", f"import sys; sys.path[:] = {sys.path!r}; {statements}"]


def start_fork_server() -> None:
    """Starts the process from which runs are forked, unless it is running: with this process's sys.path, and with
    SIGINT and SIGHUP blocked, because both also reach it while it imports torch."""
    wanted = {"PYTHONPATH": os.pathsep.join(map(os.path.abspath, sys.path)), "PYTHONSAFEPATH": "1"}
    before = {name: os.environ[name] for name in wanted if name in os.environ}
    mask = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGHUP})  # child processes inherit the blocked signals
    os.environ.update(wanted)
    try:
        resource_tracker.ensure_running()  # started here because it unblocks SIGINT
        signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
        forkserver.ensure_running()
    finally:
        for name in wanted:
            del os.environ[name]
        os.environ.update(before)
        signal.pthread_sigmask(signal.SIG_SETMASK, mask)
