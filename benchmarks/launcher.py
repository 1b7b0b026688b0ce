"""Executes a plan: in this process, in local processes, or on Slurm. One run's failure does not stop the others."""

import dataclasses
import os
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from benchmarks.clusters import ClusterSpec
from benchmarks.locks import Claims, Owner
from benchmarks.planner import Plan
from benchmarks.plugins import load_plugins
from benchmarks.retries import forget_attempts
from benchmarks.slurm import Liveness, cancel_jobs
from benchmarks.worker import Failure, ProgressFile, attempt
from sskd.config import Execution, RunSpec
from sskd.errors import UserError
from sskd.folder import RunFolder, read_json
from sskd.processes import train_in_processes
from sskd.progress import Progress
from sskd.signals import Stopped, stop_signal
from sskd.training import Interrupted, Report


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
        """Where claims, and what submitit writes, are."""
        return self.runs.parent / "jobs"

    @property
    def claims(self) -> Claims:
        return Claims(self.jobs / "claims")

    def folder(self, spec: RunSpec) -> RunFolder:
        return RunFolder(self.runs, spec)

    def finished(self, spec: RunSpec) -> bool:
        return self.folder(spec).result.exists()

    def take(self, spec: RunSpec, owner: Owner, liveness: Liveness) -> bool:
        """Claims the run; False if someone alive has it, or if it has been finished meanwhile."""
        if not self.claims.take(spec.id, owner, partial(liveness, spec.id)):
            return False
        if self.finished(spec):
            self.claims.forget(spec.id)
            return False
        return True

    def given_up(self, spec: RunSpec) -> Failure | None:
        """The failure of a run that was retried often enough. Bad input may have been mended: that is tried again."""
        failure = self.folder(spec).failure
        if self.retry_failed or self.cluster.kind == "inline" or not failure.exists():
            return None
        data = read_json(failure)
        if data.get("kind") == "input":
            return None
        return Failure(f"failed before: {data.get('message')} (--retry-failed tries it again)")

    def start_afresh(self, spec: RunSpec) -> None:
        """Forgets earlier failures of a run that is submitted."""
        forget_attempts(self.runs, spec.id)
        self.folder(spec).failure.unlink(missing_ok=True)


def needs_failed(spec: RunSpec, failures: dict[str, Failure]) -> Failure | None:
    """The failure of a run that needs one that failed."""
    lost = [needed.id for needed in spec.needs if needed.id in failures]
    return Failure(f"not started: it needs {lost[0]}, which failed") if lost else None


def launch(work: Work, progress: Progress) -> dict[str, Failure]:
    """Executes what is not finished, or waits for whoever does; returns the failures by run id."""
    if work.cluster.kind == "inline":
        return run_inline(work, progress)
    if work.cluster.kind == "local":
        from benchmarks.local import run_local

        return run_local(work, progress)
    from benchmarks.array import follow, submit

    return follow(work, progress, submit(work, progress.say))


def run_inline(work: Work, progress: Progress) -> dict[str, Failure]:
    """Run after run in this process. Another run_all.py may work on the same: each takes what is free."""
    failures: dict[str, Failure] = {}
    todo = {spec.id: spec for spec in work.plan.runs if not work.finished(spec)}
    told: set[str] = set()
    while todo:
        before = len(todo)
        for spec in list(todo.values()):
            failure = needs_failed(spec, failures)
            if failure is None:
                if any(needed.id in todo for needed in spec.needs):
                    continue
                owner = Owner()
                if work.take(spec, owner, Liveness(work.runs)):
                    failure = _execute(spec, owner, work, progress)
                elif not work.finished(spec):
                    tell_who(work, spec, progress, told)
                    continue
            del todo[spec.id]
            if failure:
                failures[spec.id] = failure
                progress.say(f"{spec.id} failed: {failure.message}")
            else:
                work.claims.forget(spec.id)
        if len(todo) == before:
            time.sleep(work.cluster.poll_seconds)
    return failures


def _execute(spec: RunSpec, owner: Owner, work: Work, progress: Progress) -> Failure | None:
    """Trains a claimed run. Stopped when it was asked to stop."""
    try:
        with stop_signal(signal.SIGTERM, signal.SIGINT) as stop:
            return attempt(spec, work.runs, partial(_train, spec, work, progress, stop))
    except Interrupted as reason:
        progress.say(str(reason))
        raise Stopped(stop.received) from None
    finally:
        work.claims.release(spec.id, owner.token)


def tell_who(work: Work, spec: RunSpec, progress: Progress, told: set[str]) -> None:
    """Says, once for each run, who else works on it."""
    owner = work.claims.owner(spec.id)
    if owner and spec.id not in told:
        told.add(spec.id)
        progress.say(f"{spec.id}: {owner} has it; waiting")


def _train(spec: RunSpec, work: Work, progress: Progress, should_stop: Callable[[], bool]) -> None:
    with _listening(spec, work, progress) as report:
        load = partial(load_plugins, work.plugins)
        result = train_in_processes(spec, work.runs, work.execution, report, progress.say, should_stop, load)
    progress.finished(spec, result)


@contextmanager
def _listening(spec: RunSpec, work: Work, progress: Progress) -> Iterator[Callable[[Report], None]]:
    """The display of a run and its progress file; yields what the training loop reports to."""
    file = ProgressFile(work.folder(spec).path, str(os.getpid()))
    with progress.run(spec) as show:

        def report(step: Report) -> None:
            show(step)
            file(step)

        yield report


def cancel(work: Work, say: Callable[[str], None]) -> int:
    """Ends what works on the plan's runs; what each has saved stays. Returns how many were told to end."""
    work.jobs.mkdir(parents=True, exist_ok=True)
    (work.jobs / "cancelled").touch()  # for launchers that would start the next run
    here, liveness = Owner().host, Liveness(work.runs)
    wanted = {spec.id for spec in work.plan.runs}
    owners = {run_id: owner for run_id, owner in work.claims.all().items() if run_id in wanted}
    held = {run_id: owner for run_id, owner in owners.items() if liveness(run_id, owner)}
    if liveness.silent:
        raise UserError(f"nothing of Slurm's was cancelled: {liveness.silent}")
    queued = {run_id: liveness.queued(owner) for run_id, owner in held.items() if owner.job or owner.batch}
    cancel_jobs([job.job for job in queued.values() if job])
    ended = 0
    for run_id, owner in held.items():
        if run_id not in queued:
            if owner.host != here:
                say(f"{run_id}: {owner} cannot be ended from here; use --cancel on {owner.host}")
                continue
            try:
                os.kill(owner.pid, signal.SIGTERM)  # it saves and ends
            except ProcessLookupError:
                continue
        else:
            work.claims.release(run_id, owner.token)
        ended += 1
    return ended


def cancelled_since(work: Work, started: float) -> bool:
    try:
        return (work.jobs / "cancelled").stat().st_mtime >= started
    except OSError:
        return False


def with_job(owner: Owner, job: str) -> Owner:
    return dataclasses.replace(owner, job=job, time=time.time())
