"""Executes a plan in this process, run after run. One run's failure is noted and does not stop the others."""

import traceback
from collections.abc import Callable
from functools import partial
from pathlib import Path

from benchmarks.planner import Plan
from sskd.config import Execution, RunSpec
from sskd.errors import UserError
from sskd.folder import RunFolder
from sskd.progress import Progress
from sskd.training import train


def run_inline(plan: Plan, runs: Path, execution: Execution, progress: Progress) -> dict[str, str]:
    """Trains what is not finished; returns the failures, message by run id."""
    failures: dict[str, str] = {}
    for spec in plan.runs:
        if RunFolder(runs, spec).status().state == "finished":
            continue
        lost = [needed.id for needed in spec.needs if needed.id in failures]
        if lost:
            message = f"not started: it needs {lost[0]}, which failed"
        else:
            message = attempt(spec, runs, partial(_train, spec, runs, execution, progress))
        if message:
            failures[spec.id] = message
            progress.say(f"{spec.id} failed: {message}")
    return failures


def attempt(spec: RunSpec, runs: Path, action: Callable[[], None]) -> str:
    """Does ``action``; where it fails, notes why in the run's folder and returns it as one line ("" if it worked)."""
    try:
        action()
    except UserError as error:
        message, details = str(error), str(error)
    except Exception as error:  # a run's failure must not cost the others; the whole story is in its log
        message, details = f"{type(error).__name__}: {' '.join(str(error).split())}", traceback.format_exc()
    else:
        return ""
    folder = RunFolder(runs, spec)
    try:
        folder.save_failure(message)
        with (folder.path / "log.txt").open("a") as log:
            log.write(details + "\n")
    except (OSError, UserError):
        pass  # the disk is full or read-only: then that is the message already
    return message


def _train(spec: RunSpec, runs: Path, execution: Execution, progress: Progress) -> None:
    with progress.run(spec) as report:
        result = train(spec, runs, execution, report, progress.say)
    progress.finished(spec, result)
