"""Executes a job on Slurm: submits job arrays whose tasks depend on exactly the runs they need, and follows their
progress."""

import secrets
import time
from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

from benchmarks.dispatch.job import Failure, Job, needs_failed
from benchmarks.dispatch.launchers import launchers, launching, planned_by
from benchmarks.dispatch.retries import SlurmSubmission
from benchmarks.dispatch.same_code import this_code
from benchmarks.dispatch.slurm_jobs import PoolJob, RunJob, check_parameters, submit_jobs
from benchmarks.dispatch.slurm_queue import Queue, SlurmJob, cancel_jobs, job_limits, submission_file
from benchmarks.dispatch.worker import read_standing
from benchmarks.planning.plan import Plan
from sskd.console.progress import Progress
from sskd.errors import UserError
from sskd.formatting import plural
from sskd.runs.files import Locked, hold, plain_os_errors, read_json
from sskd.runs.spec import RunSpec, spec_yaml
from sskd.runtime.machine import user

SUBMISSION_SECONDS = 600.0  # time limit for another run_all.py that is submitting


def submit(job: Job, log: Callable[[str], None]) -> dict[str, Failure]:
    """Submits every run that is not finished, given up, or trained by another process. Returns the runs that cannot be
    submitted.

    Stages are submitted in order, so that runs can name the jobs they depend on. Runs of a stage with the same
    dependencies and number of processes form an array; with cluster.pools, that number of jobs share all runs. Only one
    command submits at a time.
    """
    try:
        with plain_os_errors("write", job.jobs_folder):
            job.jobs_folder.mkdir(parents=True, exist_ok=True)
        with hold(job.jobs_folder / "submit.lock", patience=SUBMISSION_SECONDS):
            return _submit(job, log)
    except Locked as other:
        raise UserError(
            f"{other} has been submitting to {job.jobs_folder} for {SUBMISSION_SECONDS:.0f} s; try again later"
        ) from None


def _submit(job: Job, log: Callable[[str], None]) -> dict[str, Failure]:
    queue = Queue(job.jobs_folder)
    outdated = _outdated(job, queue)
    if not all(spec.id in queue.runs() - outdated.keys() for spec in job.unfinished):
        for processes in sorted({1 if job.cluster.pools else spec.recipe.processes for spec in job.plan.runs}):
            check_parameters(job.cluster, processes)
    if outdated:
        queue = _withdraw(job, outdated, log)
    queue.forget_old(job.jobs_folder)
    taken = queue.runs() | {spec.id for spec in job.unfinished if job.folder(spec).lock_holder()}
    if job.cluster.pools:
        taken |= planned_by(launchers(job.jobs_folder))
    known = {run_id: slurm_job.number for run_id, slurm_job in queue.tasks.items()}  # jobs on which others can depend
    left_out: dict[str, Failure] = {}
    free: list[RunSpec] = []
    arrays = 0
    for stage in job.plan.stages:
        groups: dict[tuple[str, int], list[RunSpec]] = defaultdict(list)
        for spec in stage:
            if job.finished(spec) or spec.id in taken:
                continue
            failure = job.given_up(spec) or needs_failed(spec, left_out)
            if not job.cluster.pools:
                failure = failure or next(
                    filter(None, (_lacks(job, needed, known) for needed in spec.dependencies)), None
                )
            if failure:
                left_out[spec.id] = failure
                continue
            free.append(spec)
            jobs = sorted(
                known[needed.id] for needed in spec.dependencies if needed.id in known and not job.finished(needed)
            )
            groups[f"afterok:{':'.join(jobs)}" if jobs else "", spec.recipe.processes].append(spec)
        if job.cluster.pools:
            continue
        for (after, processes), specs in groups.items():
            for start in range(0, len(specs), job.cluster.array_size):
                known |= _submit_array(job, specs[start : start + job.cluster.array_size], processes, after)
                arrays += 1
    if job.cluster.pools and free:
        arrays = job.cluster.pools
        _submit_pools(job)
    waiting = len(job.unfinished) - len(free) - len(left_out)
    what = f"{plural(arrays, 'job')} of a whole node for {plural(len(free), 'run')}"
    what = what if job.cluster.pools else f"{plural(len(free), 'run')} in {plural(arrays, 'array')}"
    log(f"submitted {what}" + (f"; {waiting} are already in the queue" if waiting else ""))
    _tell_hopeless(queue, log)
    return left_out


def _lacks(job: Job, needed: RunSpec, known: dict[str, str]) -> Failure | None:
    """Returns why a run cannot wait for a run that it needs; None if it can."""
    if job.finished(needed) or known.get(needed.id):
        return None
    trainer = job.folder(needed).lock_holder()
    why = f"which {trainer} trains; start the command again when it is finished" if trainer else "which has no job"
    return Failure(f"not submitted: it needs {needed.id}, {why}")


def _submit_array(job: Job, specs: list[RunSpec], processes: int, after: str) -> dict[str, str]:
    """Submits the runs as one array of jobs with ``processes`` processes each. Returns the jobs' numbers by run."""
    bare, code = replace(job, plan=Plan([])), this_code()
    tasks = [RunJob(spec_yaml(spec), bare, code) for spec in specs]
    for spec in specs:
        job.start_afresh(spec)
    ids = [spec.id for spec in specs]
    return dict(zip(ids, _submit_noted(job, ids, tasks, processes, after), strict=True))


def _submit_pools(job: Job) -> None:
    cluster = job.cluster.model_copy(
        update={"kind": "local", "parameters": {}, "pools": None, "poll_seconds": min(0.5, job.cluster.poll_seconds)}
    )
    texts = [spec_yaml(spec) for spec in job.plan.runs]
    pool = PoolJob(texts, replace(job, plan=Plan([]), cluster=cluster), this_code())
    _submit_noted(job, [spec.id for spec in job.plan.runs], [pool] * (job.cluster.pools or 0))


def _submit_noted(
    job: Job, ids: list[str], tasks: Sequence[Callable[[], Any]], processes: int = 1, after: str = ""
) -> list[str]:
    """Writes a submission's file, under a unique name that its jobs also have in Slurm's queue, and submits them.
    Returns the jobs' numbers."""
    cluster, file = job.cluster, submission_file(job.jobs_folder, job_name(job.name))
    with plain_os_errors("write", job.jobs_folder):
        SlurmSubmission(job.runs, ids, cluster.retries, user(), job_limits(cluster), bool(cluster.pools)).save(file)
    try:
        return submit_jobs(cluster, job.jobs_folder, file, tasks, processes, after)
    except UserError:
        file.unlink(missing_ok=True)
        raise


def job_name(request: str) -> str:
    """Returns a unique name for the jobs of a request."""
    return "-".join(filter(None, ["sskd", request, secrets.token_hex(5)]))


def _outdated(job: Job, queue: Queue) -> dict[str, SlurmJob]:
    """Returns the waiting jobs, by run, that were submitted with other limits than now requested, and those that depend
    on them."""
    asked, found = job_limits(job.cluster), dict[str, SlurmJob]()
    waiting = {run_id: slurm_job for slurm_job in queue.all for run_id in slurm_job.ids if slurm_job.state == "PENDING"}
    for spec in job.plan.runs:  # dependencies come first
        slurm_job, waits = waiting.get(spec.id), any(needed.id in found for needed in spec.dependencies)
        if slurm_job and (waits or slurm_job.submission.asked != asked):
            found[spec.id] = slurm_job
    return found


def _withdraw(job: Job, outdated: dict[str, SlurmJob], log: Callable[[str], None]) -> Queue:
    """Cancels the jobs unless they have started. Returns the queue afterwards."""
    numbers = list(dict.fromkeys(slurm_job.number for slurm_job in outdated.values()))
    jobs = f"{plural(len(numbers), 'waiting job')} with outdated limits"
    try:
        cancel_jobs(numbers, "--state=PENDING")
    except UserError as error:
        log(f"{jobs}; not all can be replaced: {error}")
    queue = Queue(job.jobs_folder)
    gone = len(set(numbers) - {slurm_job.number for slurm_job in queue.all})
    if gone and not queue.slurm_error:
        log(f"{jobs}: {plural(gone, 'job')} cancelled and submitted again")
    return queue


def _tell_hopeless(queue: Queue, log: Callable[[str], None]) -> None:
    """Logs which waiting jobs can never start, with Slurm's reason."""
    reasons: dict[str, list[SlurmJob]] = defaultdict(list)
    for slurm_job in queue.all:
        if slurm_job.hopeless:
            reasons[slurm_job.reason].append(slurm_job)
    for reason, jobs in reasons.items():
        log(
            f"{plural(len(jobs), 'job')} will never start ({reason}), the first is that of {jobs[0].ids[0]}: change "
            "their parameters with --set cluster.KEY=VALUE and start the command again"
        )


def follow(job: Job, progress: Progress, left_out: dict[str, Failure]) -> dict[str, Failure]:
    """Waits until every run is finished, failed, or without a job. Returns the failures by run id."""
    failures = dict(left_out)
    todo = {spec.id: spec for spec in job.unfinished if spec.id not in failures}
    slurm_error = ""
    for run_id, failure in failures.items():
        progress.log(f"{run_id}: {failure.message}")
    with launching(job, starts=False) as cancelled:
        while todo:
            queue = Queue(job.jobs_folder)
            alive = queue.runs() | {run_id for run_id, spec in todo.items() if job.folder(spec).lock_holder()}
            alive |= planned_by(launchers(job.jobs_folder))
            for spec in list(todo.values()):  # read after the queue, so that the results of ended jobs are complete
                if job.finished(spec):
                    del todo[spec.id]
                    progress.finished(spec, read_json(job.folder(spec).result))
                elif spec.id not in alive:
                    del todo[spec.id]
                    failures[spec.id] = _why(job, spec, failures)
                    progress.failed(spec.id, failures[spec.id].message)
                else:
                    _show(job, spec, queue.tasks.get(spec.id), progress)
            if queue.slurm_error and not slurm_error:
                progress.log(f"Slurm does not answer (its jobs continue): {queue.slurm_error}")
            slurm_error = queue.slurm_error
            if cancelled():
                raise KeyboardInterrupt
            if todo:
                time.sleep(job.cluster.poll_seconds)
    return failures


def _show(job: Job, spec: RunSpec, slurm_job: SlurmJob | None, progress: Progress) -> None:
    """Updates the row of a living run: its progress, or why it waits."""
    standing = read_standing(job.folder(spec).path)
    if slurm_job and slurm_job.state != "RUNNING":
        progress.hide(spec.id)
        progress.wait(spec.id, slurm_job.why)
    elif standing:
        progress.show(spec.id, standing)
    else:
        progress.wait(spec.id, "is starting")


def _why(job: Job, spec: RunSpec, failures: dict[str, Failure]) -> Failure:
    """Returns why a run has neither a result nor a job."""
    left = f"its job left the queue without a result: it was cancelled, or see its output in {job.jobs_folder}"
    return needs_failed(spec, failures) or job.noted_failure(spec) or Failure(left)
