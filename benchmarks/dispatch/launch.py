"""Executes a plan: in this process, in local processes, or on Slurm. One run's failure does not stop the others."""

import os
import signal
from collections.abc import Callable

from benchmarks.dispatch.run_lock import LockHolder
from benchmarks.dispatch.slurm_queue import HolderMonitor, cancel_jobs
from benchmarks.dispatch.work import Work
from benchmarks.dispatch.worker import Failure
from sskd.errors import UserError
from sskd.runs.files import plain_os_errors
from sskd.training.progress import Progress


def launch(work: Work, progress: Progress) -> dict[str, Failure]:
    """Executes what is not finished, or waits for whoever does; returns the failures by run id."""
    if work.cluster.kind == "slurm":
        from benchmarks.dispatch.slurm_array import follow, submit

        return follow(work, progress, submit(work, progress.say))
    from benchmarks.dispatch.inline import InlineSlot
    from benchmarks.dispatch.local import local_places, make_slots
    from benchmarks.dispatch.scheduler import schedule
    from sskd.mps import sharing

    if work.cluster.kind == "inline":
        with work.launching():
            return schedule(work, progress, [InlineSlot(work, progress)])
    places = local_places(work.cluster)
    with work.launching(), sharing([place.gpus for place in places], work.jobs / "mps", progress.say) as shared:
        return schedule(work, progress, make_slots(work, progress, places, shared))


def cancel(work: Work, say: Callable[[str], None]) -> int:
    """Ends what works on the plan's runs; what each has saved stays. Returns how many were told to end."""
    with plain_os_errors("write", work.jobs):
        work.jobs.mkdir(parents=True, exist_ok=True)
        (work.jobs / "cancelled").touch()  # for launchers that would start the next run
    here, liveness = LockHolder().host, HolderMonitor(work.runs)
    wanted = {spec.id for spec in work.plan.runs}
    holders = {run_id: holder for run_id, holder in work.locks.all().items() if run_id in wanted}
    held = {run_id: holder for run_id, holder in holders.items() if liveness(run_id, holder)}
    if liveness.silent:
        raise UserError(f"nothing of Slurm's was cancelled: {liveness.silent}")
    queued = {run_id: liveness.queued(holder) for run_id, holder in held.items() if holder.job or holder.batch}
    cancel_jobs([job.job for job in queued.values() if job])
    ended = 0
    for run_id, holder in held.items():
        if run_id not in queued:
            if holder.host != here:
                say(f"{run_id}: {holder} cannot be ended from here; use --cancel on {holder.host}")
                continue
            try:
                os.kill(holder.pid, signal.SIGTERM)  # it saves and ends
            except ProcessLookupError:
                continue
        else:
            work.locks.release(run_id, holder.token)
        ended += 1
    return ended
