"""``cancel``: ends what works in a results folder, whoever has started it, as far as this user may."""

import os
import signal
from collections import defaultdict
from collections.abc import Callable

from benchmarks.dispatch.run_lock import LockHolder, process_is_alive
from benchmarks.dispatch.slurm_queue import HolderMonitor, Queued, cancel_jobs
from benchmarks.dispatch.work import Work, note_cancelled
from sskd.errors import UserError
from sskd.formatting import plural

SHOWN = 3  # names of runs in a line


def cancel(work: Work, say: Callable[[str], None], everything: bool = False) -> int:
    """Ends what works on the plan's runs, or on any run of the folder (``everything``); what each has saved stays.
    Returns how many runs were told to end; of what cannot be ended from here, and of what others have at work, a line
    is said. UserError where Slurm does not answer."""
    note_cancelled(work, everything)  # for launchers that would start the next run
    liveness = HolderMonitor(work.runs)
    wanted = {spec.id for spec in work.plan.runs}
    held = {run_id: holder for run_id, holder in work.locks.all().items() if liveness(run_id, holder)}
    others = [] if everything else [run_id for run_id in held if run_id not in wanted]
    mine = {run_id: holder for run_id, holder in held.items() if run_id not in others}
    if liveness.silent:
        raise UserError(f"nothing of Slurm's was cancelled: {liveness.silent}")
    launchers, planned = work.launched(liveness)
    jobs = {run_id: holder for run_id, holder in mine.items() if holder.job or holder.batch}
    refused = _end_jobs({run_id: liveness.queued(holder) for run_id, holder in jobs.items()}, jobs, say)
    for run_id, holder in jobs.items():
        if run_id not in refused:
            work.locks.release(run_id, holder.token)
    ended = len(jobs) - len(refused)
    for launcher, runs in work.plans(liveness):  # jobs that execute a plan, before or after they have begun
        job = liveness.queued(launcher) if launcher.batch else None
        if job and (everything or runs & wanted) and not _end_jobs({job.job: job}, {job.job: launcher}, say):
            work.launchers.delete(work.launcher_name(launcher))
    hosts = {launcher.host for launcher in launchers}  # where a process reads the note
    for run_id, holder in mine.items():
        if run_id not in jobs:
            ended += _end_process(run_id, holder, hosts if run_id in planned else set(), say)
    if others:
        more = f" and {len(others) - SHOWN} more" if len(others) > SHOWN else ""
        say(
            f"{plural(len(others), 'run')} of another request go on: {', '.join(others[:SHOWN])}{more}; "
            "cancel --all ends all that works in this folder"
        )
    return ended


def _end_jobs(queued: dict[str, Queued | None], holders: dict[str, LockHolder], say: Callable[[str], None]) -> set[str]:
    """Cancels jobs, those of each user by themselves; returns the runs whose jobs Slurm did not let go."""
    by_user: dict[str, dict[str, str]] = defaultdict(dict)
    for run_id, job in queued.items():
        if job:
            by_user[holders[run_id].user][run_id] = job.job
    refused: set[str] = set()
    for user, jobs in by_user.items():
        try:
            cancel_jobs(list(jobs.values()))
        except UserError as error:
            say(f"{plural(len(jobs), 'job')} of {user}: {error}")
            refused |= jobs.keys()
    return refused


def _end_process(run_id: str, holder: LockHolder, hosts: set[str], say: Callable[[str], None]) -> bool:
    """Tells a process to save its run and to end; whether it was told."""
    if holder.host != LockHolder().host:
        if holder.host in hosts:
            return True
        say(f"{run_id}: {holder} cannot be ended from here; use cancel on {holder.host}")
        return False
    try:
        if not process_is_alive(holder):  # it has just ended, and its number may be another process's already
            return False
        os.kill(holder.pid, signal.SIGTERM)
    except ProcessLookupError:
        return False
    except PermissionError:
        say(f"{run_id}: {holder} is not yours to end: {holder.user} can, or root")
        return False
    return True
