"""Executes a plan: in this process, in local processes, or on Slurm. One run's failure does not stop the others."""

import os
import signal
from collections.abc import Callable

from benchmarks.dispatch.run_lock import Owner
from benchmarks.dispatch.slurm_queue import Liveness, cancel_jobs
from benchmarks.dispatch.work import Work
from benchmarks.dispatch.worker import Failure
from sskd.errors import UserError
from sskd.runs.run_folder import plain_os_errors
from sskd.training.progress import Progress


def launch(work: Work, progress: Progress) -> dict[str, Failure]:
    """Executes what is not finished, or waits for whoever does; returns the failures by run id."""
    if work.cluster.kind == "slurm":
        from benchmarks.dispatch.slurm_array import follow, submit

        return follow(work, progress, submit(work, progress.say))
    from benchmarks.dispatch.local import make_slots
    from benchmarks.dispatch.scheduler import schedule

    return schedule(work, progress, make_slots(work, progress))


def cancel(work: Work, say: Callable[[str], None]) -> int:
    """Ends what works on the plan's runs; what each has saved stays. Returns how many were told to end."""
    with plain_os_errors("write", work.jobs):
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
