"""What happens to a run that ended without a result: started again, as the cluster's policy says, or marked as failed.

On Slurm this is also a program, ``python -m benchmarks.dispatch.retries BATCH STATUS``: the last thing that a job's
script does, so that a run is retried when nobody watches. It must start fast: no torch here.
"""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any, NamedTuple

REQUEUED, TERMINATED = 255, 143  # exit statuses of a worker that has requeued itself, and that was told to end
FINAL = ("input", "timeout")  # kinds of failure that trying again does not mend


class Submission(NamedTuple):
    """What was submitted together: an array's tasks in order, and all that their scripts need to know."""

    runs: Path  # folder of the run folders
    ids: list[str]
    retries: dict[str, int]
    asked: dict[str, Any] | None = None  # of Slurm, as cluster.job_limits has it; None in what earlier versions wrote

    def save(self, path: Path) -> None:
        _write(path, {"runs": str(self.runs), "ids": self.ids, "retries": self.retries, "asked": self.asked})


def read_submission(path: Path) -> Submission:
    data = json.loads(path.read_text(encoding="utf-8"))
    return Submission(Path(data["runs"]), data["ids"], data["retries"], data.get("asked"))


def attempts(runs: Path, run_id: str) -> dict[str, int]:
    """How often the run was started again, by what had ended it."""
    return {kind: count for kind, count in _read(_notes(runs, run_id)).items() if isinstance(count, int)}


def forget_attempts(runs: Path, run_id: str) -> None:
    _notes(runs, run_id).unlink(missing_ok=True)


def retry(runs: Path, run_id: str, retries: dict[str, int], ended_by: str) -> str:
    """Decides about a run without a result. Returns what to say; "" if it is to be given up, and is marked failed.

    ``ended_by``: in words, for a worker that left no word itself.
    """
    failure = _read(runs / run_id / "failed.json")
    if failure.get("kind") in FINAL:
        return ""
    kind = failure.get("kind", "lost") if failure else "lost"
    done = attempts(runs, run_id)
    if done.get(kind, 0) < retries.get(kind, 0):
        done[kind] = done.get(kind, 0) + 1
        _write(_notes(runs, run_id), done)
        (runs / run_id / "failed.json").unlink(missing_ok=True)
        why = failure.get("message", f"the worker was lost ({ended_by})")
        line = f"{run_id}: {why}; started again ({kind.replace('_', ' ')} {done[kind]} of {retries[kind]})"
        _log(runs / run_id, line)
        return line
    if not failure:
        lines = last_lines(runs / run_id)
        message = f"the worker was lost ({ended_by}) {done.get(kind, 0) + 1} times"
        _write(runs / run_id / "failed.json", {"message": message, "kind": "lost", "last_lines": lines})
        _log(runs / run_id, message)
    return ""


def last_lines(folder: Path, count: int = 20) -> list[str]:
    """The end of a run's log."""
    try:
        with (folder / "log.txt").open("rb") as file:
            file.seek(max(0, file.seek(0, os.SEEK_END) - 8192))
            return file.read().decode(errors="replace").splitlines()[-count:]
    except OSError:
        return []


def main(arguments: list[str]) -> int:
    """After a job of Slurm: requeues it if its run is to be retried. The status is the worker's."""
    batch, status = read_submission(Path(arguments[0])), int(arguments[1])
    run_id = batch.ids[int(os.environ.get("SLURM_ARRAY_TASK_ID", "0"))]
    if status in (0, REQUEUED, TERMINATED) or (batch.runs / run_id / "result.json").exists():
        return status
    try:
        line = retry(batch.runs, run_id, batch.retries, f"exit status {status}")
    except OSError as error:  # a full disk: not the place to count attempts
        print(f"not retried: {error}", file=sys.stderr)
        return status
    if line:
        print(line, flush=True)
        array, task = os.environ.get("SLURM_ARRAY_JOB_ID"), os.environ.get("SLURM_ARRAY_TASK_ID")
        subprocess.run(["scontrol", "requeue", f"{array}_{task}" if array else os.environ["SLURM_JOB_ID"]], check=True)
    return status


def _notes(runs: Path, run_id: str) -> Path:
    return runs.parent / "jobs" / "attempts" / f"{run_id}.json"


def _read(path: Path) -> dict[str, Any]:
    """{} where there is none, or it is damaged."""
    try:
        data = json.loads(path.read_bytes())
    except (OSError, ValueError, RecursionError):
        return {}
    return data if isinstance(data, dict) else {}


def _write(path: Path, data: dict[str, Any]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    draft = path.with_name(f"{path.name}.{os.getpid()}.partial")
    try:
        draft.write_text(json.dumps(data), encoding="utf-8")
        os.replace(draft, path)
    finally:
        draft.unlink(missing_ok=True)


def _log(folder: Path, line: str) -> None:
    try:
        with (folder / "log.txt").open("a", encoding="utf-8") as log:
            log.write(line + "\n")
    except OSError:
        pass


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
