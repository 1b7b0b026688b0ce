"""Decides whether a run that ended without a result is started again or marked as failed.

On Slurm this module is also a program, ``python -m benchmarks.dispatch.retries SUBMISSION STATUS``: the last command of
a job's script, so that runs are retried without a watching process. It must start quickly, so it does not import torch.
"""

import json
import os
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path
from typing import Any, NamedTuple

from sskd.errors import UserError
from sskd.runs.files import append_line, write_json

REQUEUED, TERMINATED = 255, 143  # exit statuses: the job requeued itself; it was told to end
FINAL = ("input", "timeout")  # kinds of failure that are not retried


class SlurmSubmission(NamedTuple):
    """Runs that were submitted to Slurm together: those of an array in order, or those of a job with a whole node."""

    runs: Path  # folder of the run folders
    ids: list[str]
    retries: int
    user: str
    asked: dict[str, Any]  # from slurm_queue.job_limits
    pool: bool = False  # whether one job executes all runs

    def save(self, path: Path) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        write_json(path, self._asdict() | {"runs": str(self.runs)})


def read_slurm_submission(path: Path) -> SlurmSubmission:
    """Reads a submission. Raises OSError, ValueError, TypeError or RecursionError for a damaged file."""
    data = json.loads(path.read_text(encoding="utf-8"))
    return SlurmSubmission(**data)._replace(runs=Path(data["runs"]), ids=list(map(str, data["ids"])))


def retry(folder: Path, done: int, allowed: int, ended_by: str) -> str:
    """Decides about a run without a result that was started again ``done`` times. Returns a message if it is started
    again, else "" after writing failed.json. Raises UserError if that cannot be written.

    ended_by: description of the end of a process that left no failure.
    """
    failure = _read(folder / "failed.json")
    if failure.get("kind") in FINAL:
        return ""
    why = failure.get("message", f"its process was lost ({ended_by})")
    if done < allowed:
        (folder / "failed.json").unlink(missing_ok=True)
        line = f"{folder.name}: {why}; started again ({done + 1} of {allowed})"
        log_line(folder, line)
        return line
    if not failure:
        message = f"{why}, {done + 1} times" if done else why
        write_json(folder / "failed.json", {"message": message, "kind": "lost", "last_lines": last_lines(folder)})
        log_line(folder, message)
    return ""


def log_line(folder: Path, text: str) -> None:
    """Appends lines with the time to a run's log. Prints them if the log cannot be written."""
    now = time.strftime("%Y-%m-%d %H:%M:%S")
    stamped = "\n".join(f"{now} {line}" for line in text.rstrip().splitlines())
    try:
        append_line(folder / "log.txt", stamped)
    except OSError:
        with suppress(OSError):  # the output may be on the same full disk
            print(stamped, flush=True)


def last_lines(folder: Path, count: int = 20) -> list[str]:
    """Returns the last lines of a run's log."""
    try:
        with (folder / "log.txt").open("rb") as file:
            file.seek(max(0, file.seek(0, os.SEEK_END) - 8192))
            return file.read().decode(errors="replace").splitlines()[-count:]
    except OSError:
        return []


def main(arguments: list[str]) -> int:
    """Requeues the Slurm job if its run is to be retried. Returns the job's exit status."""
    file, status = Path(arguments[0]), int(arguments[1])
    submission, task = read_slurm_submission(file), os.environ.get("SLURM_ARRAY_TASK_ID", "0")
    folder = submission.runs / submission.ids[int(task)]
    if status in (0, REQUEUED, TERMINATED) or (folder / "result.json").exists():
        return status
    count = file.with_suffix(f".{task}")  # file with the number of restarts
    try:
        done = int(_read(count).get("done", 0))
        write_json(count, {"done": done + 1})
        line = retry(folder, done, submission.retries, f"exit status {status}")
    except (OSError, UserError) as error:  # a full disk
        print(f"not retried: {error}", file=sys.stderr)
        return status
    if line:
        print(line, flush=True)
        array = os.environ.get("SLURM_ARRAY_JOB_ID")
        subprocess.run(["scontrol", "requeue", f"{array}_{task}" if array else os.environ["SLURM_JOB_ID"]], check=True)
    return status


def _read(path: Path) -> dict[str, Any]:
    """Returns the JSON object in a file; {} if it is missing or damaged."""
    try:
        data = json.loads(path.read_bytes())
    except (OSError, ValueError, RecursionError):
        return {}
    return data if isinstance(data, dict) else {}


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
