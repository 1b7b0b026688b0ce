"""What is to be executed, and who works on it: what every way of executing a plan builds on."""

import dataclasses
import os
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from benchmarks.dispatch.cluster import ClusterSpec
from benchmarks.dispatch.retries import forget_attempts
from benchmarks.dispatch.run_lock import SILENT_AFTER, LockHolder, RunLocks
from benchmarks.dispatch.slurm_queue import HolderMonitor
from benchmarks.dispatch.worker import Failure
from benchmarks.planning.plan import Plan
from sskd.config.execution import Execution
from sskd.console.progress import Progress
from sskd.errors import UserError
from sskd.runs.files import plain_os_errors, read_json, write_json
from sskd.runs.run_folder import RunFolder
from sskd.runs.spec import RunSpec

SIGN_SECONDS = SILENT_AFTER / 6  # between a launcher's signs of life
PLANNED = "runs.json"  # beside a launcher's claim: the runs of its plan


@dataclass(frozen=True)
class Work:
    """What is to be executed, and how."""

    plan: Plan
    runs: Path  # folder of the run folders, absolute
    execution: Execution
    cluster: ClusterSpec
    plugins: tuple[str, ...] = ()
    retry_failed: bool = False
    name: str = ""  # of the request, which Slurm's jobs carry

    @property
    def jobs(self) -> Path:
        """Where claims are, and what processes and submitit write."""
        return self.runs.parent / "jobs"

    @property
    def launchers(self) -> RunLocks:
        """Processes that execute plans in this folder: they go on with runs that nobody has claimed yet."""
        return RunLocks(self.jobs / "launchers")

    @contextmanager
    def launching(self) -> Iterator[None]:
        """Notes in the block that this process executes the plan, for who watches. Where that cannot be written, a
        watcher may end too early, and nothing else."""
        with suppress(OSError, UserError):
            self.note_launcher(LockHolder())
        try:
            yield
        finally:
            self.launchers.delete(self.launcher_name(LockHolder()))

    def note_launcher(self, holder: LockHolder) -> None:
        """UserError or OSError where that cannot be written."""
        name = self.launcher_name(holder)
        self.launchers.acquire(name, holder, lambda present: present.born == holder.born)
        write_json(self.launchers.folder / name / PLANNED, [spec.id for spec in self.plan.runs])

    def still_launching(self) -> None:
        """A sign of life, a few times an hour, for who watches from another host and cannot see this process."""
        with suppress(OSError):
            for claim in (self.launchers.folder / self.launcher_name(LockHolder())).glob("[0-9]*.json"):
                if time.time() - claim.stat().st_mtime > SIGN_SECONDS:
                    os.utime(claim)  # without a time: over NFS the server takes its own

    @staticmethod
    def launcher_name(holder: LockHolder) -> str:
        """The name of the claim of a process that executes a plan, or of a job that will."""
        return f"job-{holder.batch}" if holder.batch else f"{holder.host}-{holder.pid}"

    def plans(self, liveness: HolderMonitor) -> Iterator[tuple[LockHolder, set[str]]]:
        """The launchers that are alive, each with the runs that it executes or will."""
        for name, holder in self.launchers.all().items():
            if liveness(name, holder):
                planned: set[str] = set()
                with suppress(UserError):  # it is just beginning or ending
                    planned = set(read_json(self.launchers.folder / name / PLANNED))
                yield holder, planned

    def launched(self, liveness: HolderMonitor) -> tuple[list[LockHolder], set[str]]:
        """The launchers that are alive, and the runs of all their plans."""
        plans = list(self.plans(liveness))
        return [holder for holder, _ in plans], set[str]().union(*(planned for _, planned in plans))

    @property
    def locks(self) -> RunLocks:
        return RunLocks(self.jobs / "claims")

    def folder(self, spec: RunSpec) -> RunFolder:
        return RunFolder(self.runs, spec)

    def finished(self, spec: RunSpec) -> bool:
        return self.folder(spec).is_finished()

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
        if self.retry_failed or self.cluster.kind == "inline" or not os.path.exists(failure):
            return None
        data = self.folder(spec).read_failure()
        if data.get("kind") == "input":
            return None
        return Failure(f"failed before: {data['message']} (--retry-failed tries it again)")

    def start_afresh(self, spec: RunSpec) -> None:
        """Forgets earlier failures of a run that is submitted."""
        forget_attempts(self.runs, spec.id)
        with suppress(OSError):  # there is none, or the run itself will say that its folder cannot be written
            self.folder(spec).failure.unlink()


def needs_failed(spec: RunSpec, failures: Mapping[str, Failure]) -> Failure | None:
    """The failure of a run that needs one that failed."""
    lost = [needed.id for needed in spec.needs if needed.id in failures]
    return Failure(f"not started: it needs {lost[0]}, which failed") if lost else None


def waits_for_what(needed: Sequence[str]) -> str:
    """What a run waits for that nobody has started: the runs that it needs, or its turn."""
    return f"for {needed[0]}{f' and {len(needed) - 1} more' if len(needed) > 1 else ''}" if needed else "for its turn"


def tell_who(work: Work, spec: RunSpec, progress: Progress, told: set[str]) -> None:
    """Says, once for each run, who else works on it."""
    who = work.folder(spec).held_by() or work.locks.holder(spec.id)
    if who:
        progress.wait(spec.id, f"{who} has it")
    if who and spec.id not in told:
        told.add(spec.id)
        progress.say(f"{spec.id}: {who} has it; waiting")


def note_cancelled(work: Work, everything: bool) -> None:
    """For processes that execute plans in this folder, on whatever host: those that have a run of this plan, or all,
    are to end. UserError where that cannot be written."""
    with plain_os_errors("write", work.jobs):
        work.jobs.mkdir(parents=True, exist_ok=True)
        ids = [] if everything else [spec.id for spec in work.plan.runs]
        (work.jobs / "cancelled").write_text("".join(f"{run_id}\n" for run_id in ids), encoding="utf-8")


def cancelled_since(work: Work, started: float) -> bool:
    """Whether this plan's execution was to end. ``started``: by the file system's clock, as run_lock.file_time."""
    note = work.jobs / "cancelled"
    try:
        if note.stat().st_mtime < started:
            return False
        ids = set(note.read_text(encoding="utf-8").split())
    except (OSError, ValueError):
        return False
    return not ids or any(spec.id in ids for spec in work.plan.runs)


def with_job(holder: LockHolder, job: str) -> LockHolder:
    return dataclasses.replace(holder, job=job)
