"""A job: what is executed and where, and why runs failed. The basis of all ways to execute runs."""

import os
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from benchmarks.dispatch.cluster import ClusterSpec
from benchmarks.planning.plan import Plan
from sskd.config.execution import Execution
from sskd.formatting import first_of
from sskd.runs.run_folder import RunFolder
from sskd.runs.spec import RunSpec


class Failure(NamedTuple):
    """Reason why a run has no result."""

    message: str
    kind: str = "exception"  # input: to be corrected by the user; held: another process trains the run; timeout; lost


@dataclass(frozen=True)
class Job:
    """A plan, and how and where to execute it."""

    plan: Plan
    runs: Path  # absolute path of the folder of the run folders
    execution: Execution
    cluster: ClusterSpec
    plugins: tuple[str, ...] = ()
    retry_failed: bool = False
    name: str = ""  # name of the request, part of the names of Slurm's jobs

    @property
    def jobs_folder(self) -> Path:
        """Returns the folder of the files of launchers and Slurm submissions, and of the logs of processes and
        submitit."""
        return self.runs.parent / "jobs"

    @property
    def unfinished(self) -> list[RunSpec]:
        return [spec for spec in self.plan.runs if not self.finished(spec)]

    def folder(self, spec: RunSpec) -> RunFolder:
        return RunFolder(self.runs, spec)

    def finished(self, spec: RunSpec) -> bool:
        return self.folder(spec).is_finished()

    def noted_failure(self, spec: RunSpec) -> Failure | None:
        """Returns the failure in the run's failed.json; None without one."""
        if not os.path.exists(self.folder(spec).failure):
            return None
        data = self.folder(spec).read_failure()
        return Failure(data["message"], str(data.get("kind", "exception")))

    def given_up(self, spec: RunSpec) -> Failure | None:
        """Returns the failure of a run that was retried often enough; None for invalid input, which the user may have
        corrected."""
        failure = None if self.retry_failed or self.cluster.kind == "inline" else self.noted_failure(spec)
        if failure is None or failure.kind == "input":
            return None
        return Failure(f"failed before: {failure.message} (start it again with --retry-failed)")

    def start_afresh(self, spec: RunSpec) -> None:
        """Deletes an earlier failure."""
        with suppress(OSError):  # no such file, or an error that the run will report itself
            self.folder(spec).failure.unlink()


def needs_failed(spec: RunSpec, failures: Mapping[str, Failure]) -> Failure | None:
    """Returns the failure of a run that needs a failed run; None otherwise."""
    lost = [needed.id for needed in spec.dependencies if needed.id in failures]
    return Failure(f"not started: it needs {lost[0]}, which failed") if lost else None


def waiting_reason(needed: Sequence[str]) -> str:
    """Describes what a run waits for before it starts: the runs that it needs, or a free slot."""
    return f"for {first_of(needed, 1)}" if needed else "for a free slot"
