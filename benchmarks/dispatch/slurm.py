"""A plan on Slurm: job arrays whose tasks wait for exactly the runs they need, and a look at how they get on."""

import secrets
import time
from collections import defaultdict
from collections.abc import Callable
from pathlib import Path

from benchmarks.dispatch.launchers import launchers, launching, planned_by
from benchmarks.dispatch.retries import Submission
from benchmarks.dispatch.same_code import this_code
from benchmarks.dispatch.slurm_jobs import PoolJob, RunJob, check_parameters, submit_jobs
from benchmarks.dispatch.slurm_queue import Job, Queue, cancel_jobs, job_limits, submission_file
from benchmarks.dispatch.work import Failure, Work, needs_failed
from benchmarks.dispatch.worker import read_standing
from sskd.console.progress import Progress
from sskd.errors import UserError
from sskd.formatting import plural
from sskd.runs.files import Locked, hold, plain_os_errors, read_json
from sskd.runs.spec import RunSpec, spec_yaml
from sskd.runtime.machine import user

SUBMISSION_SECONDS = 600.0  # that another run_all.py may take to submit


def submit(work: Work, log: Callable[[str], None]) -> dict[str, Failure]:
    """Submits every run that is not finished, failed for good, or somebody's; stage by stage, so that each can name
    the jobs it waits for. Runs of a stage that wait for the same runs, with as many processes, are one array; with
    cluster.pools so many jobs have all the runs. Returns what is not submitted. One command at a time submits.
    """
    try:
        with plain_os_errors("write", work.jobs):
            work.jobs.mkdir(parents=True, exist_ok=True)
        with hold(work.jobs / "submit.lock", patience=SUBMISSION_SECONDS):
            return _submit(work, log)
    except Locked as other:
        raise UserError(f"{other} has been submitting to {work.jobs} for {SUBMISSION_SECONDS:.0f} s") from None


def _submit(work: Work, log: Callable[[str], None]) -> dict[str, Failure]:
    queue = Queue(work.jobs)
    outdated = _outdated(work, queue)
    if not all(spec.id in queue.runs() - outdated.keys() for spec in work.unfinished):
        for processes in sorted({1 if work.cluster.pools else spec.recipe.processes for spec in work.plan.runs}):
            check_parameters(work.cluster, processes)
    if outdated:
        queue = _withdraw(work, outdated, log)
    queue.forget_old(work.jobs)
    taken = queue.runs() | {spec.id for spec in work.unfinished if work.folder(spec).held_by()}
    if work.cluster.pools:
        taken |= planned_by(launchers(work.jobs))
    known = {run_id: job.number for run_id, job in queue.tasks.items()}  # the jobs that others may wait for
    left_out: dict[str, Failure] = {}
    free: list[RunSpec] = []
    arrays = 0
    for stage in work.plan.stages:
        groups: dict[tuple[str, int], list[RunSpec]] = defaultdict(list)
        for spec in stage:
            if work.finished(spec) or spec.id in taken:
                continue
            failure = work.given_up(spec) or needs_failed(spec, left_out)
            if not work.cluster.pools:
                failure = failure or next(
                    filter(None, (_lacks(work, needed, known) for needed in spec.dependencies)), None
                )
            if failure:
                left_out[spec.id] = failure
                continue
            free.append(spec)
            jobs = sorted(
                known[needed.id] for needed in spec.dependencies if needed.id in known and not work.finished(needed)
            )
            groups[f"afterok:{':'.join(jobs)}" if jobs else "", spec.recipe.processes].append(spec)
        if work.cluster.pools:
            continue
        for (after, processes), specs in groups.items():
            for start in range(0, len(specs), work.cluster.array_size):
                known |= _submit_array(work, specs[start : start + work.cluster.array_size], processes, after)
                arrays += 1
    if work.cluster.pools and free:
        arrays = work.cluster.pools
        for _ in range(arrays):
            _submit_pool(work)
    waiting = len(work.unfinished) - len(free) - len(left_out)
    what = f"{plural(arrays, 'job')} of a whole node for {plural(len(free), 'run')}"
    what = what if work.cluster.pools else f"{plural(len(free), 'run')} in {plural(arrays, 'array')}"
    log(f"submitted {what}" + (f"; {waiting} are in the queue already" if waiting else ""))
    _tell_hopeless(queue, log)
    return left_out


def _lacks(work: Work, needed: RunSpec, known: dict[str, str]) -> Failure | None:
    """Why a run cannot wait for one that it needs."""
    if work.finished(needed) or known.get(needed.id):
        return None
    trainer = work.folder(needed).held_by()
    why = f"which {trainer} trains; start again when that is done" if trainer else "which has no job"
    return Failure(f"not submitted: it needs {needed.id}, {why}")


def _submit_array(work: Work, specs: list[RunSpec], processes: int, after: str) -> dict[str, str]:
    """Submits the runs as one array of jobs with so many processes each; the jobs' numbers by run."""
    code = this_code()
    jobs = [RunJob(spec_yaml(spec), work.runs, work.execution, work.plugins, code) for spec in specs]
    for spec in specs:
        work.start_afresh(spec)
    submission = _note(work, [spec.id for spec in specs])
    try:
        numbers = submit_jobs(work.cluster, work.jobs, submission, jobs, processes, after)
    except UserError:
        submission.unlink(missing_ok=True)
        raise
    return {spec.id: number for spec, number in zip(specs, numbers, strict=True)}


def _submit_pool(work: Work) -> None:
    cluster = work.cluster.model_copy(
        update={"kind": "local", "parameters": {}, "pools": None, "poll_seconds": min(0.5, work.cluster.poll_seconds)}
    )
    texts = [spec_yaml(spec) for spec in work.plan.runs]
    job = PoolJob(texts, work.runs, work.execution, cluster, work.plugins, work.retry_failed, this_code())
    submission = _note(work, [spec.id for spec in work.plan.runs])
    try:
        submit_jobs(work.cluster, work.jobs, submission, [job], 1, "")
    except UserError:
        submission.unlink(missing_ok=True)
        raise


def _note(work: Work, ids: list[str]) -> Path:
    """Notes a submission, under a name that no other has and its jobs carry."""
    file = submission_file(work.jobs, job_name(work.name))
    with plain_os_errors("write", work.jobs):
        Submission(
            work.runs, ids, work.cluster.retries, user(), job_limits(work.cluster), bool(work.cluster.pools)
        ).save(file)
    return file


def job_name(request: str) -> str:
    """A name for the jobs of a request that no others have."""
    return "-".join(filter(None, ["sskd", request, secrets.token_hex(5)]))


def _outdated(work: Work, queue: Queue) -> dict[str, Job]:
    """The waiting jobs, by run, that were submitted with other limits than are asked for now, and those that wait for
    one of them. Of what an earlier version submitted the limits are not known: those that can never start."""
    asked, found = job_limits(work.cluster), dict[str, Job]()
    waiting = {run_id: job for job in queue.all for run_id in job.ids if job.state == "PENDING"}
    for spec in work.plan.runs:  # what a run needs comes before it
        if job := waiting.get(spec.id):
            before = job.submission.asked
            other = job.hopeless if before is None else before != asked
            if other or any(needed.id in found for needed in spec.dependencies):
                found[spec.id] = job
    return found


def _withdraw(work: Work, outdated: dict[str, Job], log: Callable[[str], None]) -> Queue:
    """Cancels the jobs unless they have just begun. Returns the queue as it then is."""
    numbers = list(dict.fromkeys(job.number for job in outdated.values()))
    jobs = f"{plural(len(numbers), 'waiting job')} asked for other limits than now"
    try:
        cancel_jobs(numbers, "--state=PENDING")
    except UserError as error:
        log(f"{jobs}, and not all can be replaced: {error}")
    queue = Queue(work.jobs)
    gone = len(set(numbers) - {job.number for job in queue.all})
    if gone and not queue.silent:
        log(f"{jobs}: {plural(gone, 'job')} cancelled, to be submitted anew")
    return queue


def _tell_hopeless(queue: Queue, log: Callable[[str], None]) -> None:
    """Says which waiting jobs no time will start, and Slurm's reason."""
    reasons: dict[str, list[Job]] = defaultdict(list)
    for job in queue.all:
        if job.hopeless:
            reasons[job.reason].append(job)
    for reason, jobs in reasons.items():
        log(
            f"{plural(len(jobs), 'job')} will never start as asked for ({reason}): change --set cluster.KEY=VALUE, and "
            f"start again; the first is that of {jobs[0].ids[0]}"
        )


def follow(work: Work, progress: Progress, left_out: dict[str, Failure]) -> dict[str, Failure]:
    """Waits until every run is finished, has failed, or has no job any more; failures by run id."""
    failures = dict(left_out)
    todo = {spec.id: spec for spec in work.unfinished if spec.id not in failures}
    silent = ""
    for run_id, failure in failures.items():
        progress.log(f"{run_id}: {failure.message}")
    with launching(work, starts=False) as cancelled:
        while todo:
            queue = Queue(work.jobs)
            alive = queue.runs() | {run_id for run_id, spec in todo.items() if work.folder(spec).held_by()}
            alive |= planned_by(launchers(work.jobs))
            for spec in list(todo.values()):  # after the look at the queue: a job that was gone has written its last
                if work.finished(spec):
                    del todo[spec.id]
                    progress.finished(spec, read_json(work.folder(spec).result))
                elif spec.id not in alive:
                    del todo[spec.id]
                    failures[spec.id] = _why(work, spec, failures)
                    progress.failed(spec.id, failures[spec.id].message)
                else:
                    _show(work, spec, queue.tasks.get(spec.id), progress)
            if queue.silent and not silent:
                progress.log(f"Slurm does not answer, which does not stop its jobs: {queue.silent}")
            silent = queue.silent
            if cancelled():
                raise KeyboardInterrupt
            if todo:
                time.sleep(work.cluster.poll_seconds)
    return failures


def _show(work: Work, spec: RunSpec, job: Job | None, progress: Progress) -> None:
    """The row of a run that is alive: how far it is, or why it waits."""
    standing = read_standing(work.folder(spec).path)
    if job and job.state != "RUNNING":
        progress.hide(spec.id)
        progress.wait(spec.id, job.why)
    elif standing:
        progress.show(spec.id, standing)
    else:
        progress.wait(spec.id, "is starting")


def _why(work: Work, spec: RunSpec, failures: dict[str, Failure]) -> Failure:
    """Why a run has neither result nor job."""
    left = f"its job has left the queue without a result: cancelled, or see {work.jobs} for what it printed"
    return needs_failed(spec, failures) or work.noted_failure(spec) or Failure(left)
