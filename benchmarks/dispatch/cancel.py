"""``cancel``: ends the runs of a results folder, whoever started them, as far as this user may."""

import os
import signal
from collections import defaultdict
from collections.abc import Callable

from benchmarks.dispatch.job import Job
from benchmarks.dispatch.launchers import launchers
from benchmarks.dispatch.slurm_queue import Queue, cancel_jobs
from sskd.errors import UserError
from sskd.formatting import first_of, plural
from sskd.runs.files import Holder, lock_holder
from sskd.runtime.machine import host


def cancel(job: Job, log: Callable[[str], None], everything: bool = False) -> int:
    """Ends the job's runs, or all runs of the folder (``everything``); each saves its state first.

    Returns the number of runs that were told to end. Logs a line for processes that cannot be ended from here, and for
    other requests' runs. Raises UserError if there are no results or Slurm does not answer.
    """
    if not job.runs.parent.is_dir():
        raise UserError(f"there are no results in {job.runs.parent}: choose their folder with --results DIR")
    queue, wanted = Queue(job.jobs_folder), {spec.id for spec in job.plan.runs}
    if queue.slurm_error:
        raise UserError(f"no Slurm job was cancelled: {queue.slurm_error}")
    elsewhere: set[str] = set()  # runs of launchers on other hosts, which end them
    for launcher in launchers(job.jobs_folder):
        if everything or launcher.runs & wanted:
            try:
                launcher.cancel()
            except UserError as error:
                log(str(error))
                continue
            if launcher.holder.host != host():
                elsewhere |= launcher.runs
            elif not launcher.began:  # it still imports its modules
                _end_process("", launcher.holder, set(), log)
    told = _end_jobs(queue, None if everything else wanted, log)
    held = held_runs(job)
    mine = {run_id: holder for run_id, holder in held.items() if everything or run_id in wanted}
    ended = sum(_end_process(run_id, mine[run_id], elsewhere, log) for run_id in mine.keys() - told)
    others = sorted((held.keys() | queue.tasks.keys()) - mine.keys() - told - wanted)
    if others and not everything:
        log(
            f"{plural(len(others), 'run')} of other requests continue: {first_of(others)}; "
            "cancel --all ends all runs of this folder"
        )
    return ended + len(told & (queue.tasks.keys() | held.keys()))


def held_runs(job: Job) -> dict[str, Holder]:
    """Returns the runs of the folder that a process is training."""
    found = {lock.parent.name: lock_holder(lock) for lock in sorted(job.runs.glob("*/train.lock"))}
    return {run_id: holder for run_id, holder in found.items() if holder}


def _end_jobs(queue: Queue, wanted: set[str] | None, log: Callable[[str], None]) -> set[str]:
    """Cancels the Slurm jobs of the wanted runs, or all, separately per user. Returns the runs of these jobs."""
    by_user: dict[str, dict[str, list[str]]] = defaultdict(dict)
    for slurm_job in queue.all:
        if wanted is None or not wanted.isdisjoint(slurm_job.ids):
            by_user[slurm_job.submission.user][slurm_job.number] = slurm_job.ids
    told: set[str] = set()
    for user, jobs in by_user.items():
        try:
            cancel_jobs(list(jobs))
            told.update(*jobs.values())
        except UserError as error:
            log(f"{plural(len(jobs), 'job')} of {user}: {error}")
    return told


def _end_process(run_id: str, holder: Holder, elsewhere: set[str], log: Callable[[str], None]) -> bool:
    """Tells a process to save its run and end. Returns True if it was told."""
    if run_id in elsewhere:
        return True
    if holder.host != host() or not holder.pid:
        log(f"{run_id}: {holder} cannot be ended from this host; use cancel on {holder.host or 'its host'}")
        return False
    try:
        os.kill(holder.pid, signal.SIGTERM)
    except ProcessLookupError:
        return False
    except PermissionError:
        log(f"{run_id}: {holder} belongs to another user: only {holder.user} or root can end it")
        return False
    return True
