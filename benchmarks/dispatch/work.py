"""What is to be executed, and who works on it: what every way of executing a plan builds on."""

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from benchmarks.dispatch.cluster import ClusterSpec
from benchmarks.dispatch.retries import forget_attempts
from benchmarks.dispatch.run_lock import LockHolder, RunLocks
from benchmarks.dispatch.slurm_queue import HolderMonitor
from benchmarks.dispatch.worker import Failure
from benchmarks.plan import Plan
from sskd.config.execution import Execution
from sskd.runs.run_folder import RunFolder
from sskd.runs.spec import RunSpec
from sskd.training.progress import Progress


@dataclass(frozen=True)
class Work:
    """What is to be executed, and how."""

    plan: Plan
    runs: Path  # folder of the run folders, absolute
    execution: Execution
    cluster: ClusterSpec
    plugins: tuple[str, ...] = ()
    retry_failed: bool = False

    @property
    def jobs(self) -> Path:
        """Where claims are, and what processes and submitit write."""
        return self.runs.parent / "jobs"

    @property
    def locks(self) -> RunLocks:
        return RunLocks(self.jobs / "claims")

    def folder(self, spec: RunSpec) -> RunFolder:
        return RunFolder(self.runs, spec)

    def finished(self, spec: RunSpec) -> bool:
        return self.folder(spec).result.exists()

    def acquire(self, spec: RunSpec, holder: LockHolder, liveness: HolderMonitor) -> bool:
        """Claims the run; False if someone alive has it, or if it has been finished meanwhile."""
        if self.folder(spec).held_by():  # without a claim: python -m sskd train
            return False
        if not self.locks.acquire(spec.id, holder, partial(liveness, spec.id)):
            return False
        if self.finished(spec):
            self.locks.delete(spec.id)
            return False
        return True

    def given_up(self, spec: RunSpec) -> Failure | None:
        """The failure of a run that was retried often enough. Bad input may have been mended: that is tried again."""
        failure = self.folder(spec).failure
        if self.retry_failed or self.cluster.kind == "inline" or not failure.exists():
            return None
        data = self.folder(spec).read_failure()
        if data.get("kind") == "input":
            return None
        return Failure(f"failed before: {data['message']} (--retry-failed tries it again)")

    def start_afresh(self, spec: RunSpec) -> None:
        """Forgets earlier failures of a run that is submitted."""
        forget_attempts(self.runs, spec.id)
        self.folder(spec).failure.unlink(missing_ok=True)


def needs_failed(spec: RunSpec, failures: Mapping[str, Failure]) -> Failure | None:
    """The failure of a run that needs one that failed."""
    lost = [needed.id for needed in spec.needs if needed.id in failures]
    return Failure(f"not started: it needs {lost[0]}, which failed") if lost else None


def tell_who(work: Work, spec: RunSpec, progress: Progress, told: set[str]) -> None:
    """Says, once for each run, who else works on it."""
    who = work.folder(spec).held_by() or work.locks.holder(spec.id)
    if who and spec.id not in told:
        told.add(spec.id)
        progress.say(f"{spec.id}: {who} has it; waiting")


def cancelled_since(work: Work, started: float) -> bool:
    """``started``: by the clock of the file system, as locks.file_time gives it."""
    try:
        return (work.jobs / "cancelled").stat().st_mtime >= started
    except OSError:
        return False


def with_job(holder: LockHolder, job: str) -> LockHolder:
    return dataclasses.replace(holder, job=job)
