"""A plan on Slurm: job arrays whose tasks wait for exactly the runs they need, and a look at how they get on."""

import time
from collections import defaultdict
from collections.abc import Callable, Mapping

from benchmarks.dispatch.cluster import job_limits
from benchmarks.dispatch.retries import Submission
from benchmarks.dispatch.run_lock import LockHolder, file_time
from benchmarks.dispatch.same_code import this_code
from benchmarks.dispatch.slurm_pool import submit_pools
from benchmarks.dispatch.slurm_queue import (
    SUBMISSION_SECONDS,
    HolderMonitor,
    Queued,
    asked_for,
    cancel_jobs,
    check_parameters,
    new_submission,
    submit_runs,
)
from benchmarks.dispatch.work import Work, cancelled_since, needs_failed, with_job
from benchmarks.dispatch.worker import Failure, RunJob, read_standing
from sskd.console.progress import Progress
from sskd.errors import UserError
from sskd.formatting import plural
from sskd.runs.files import read_json
from sskd.runs.spec import RunSpec, spec_yaml


def submit(work: Work, say: Callable[[str], None]) -> dict[str, Failure]:
    """Submits every run that is not finished, failed for good, or somebody's; stage by stage, so that each can name
    the jobs it waits for. Runs of a stage that wait for the same runs, with as many processes, are one array. Returns
    what is not submitted.
    """
    if work.cluster.pools:
        return submit_pools(work, say)
    liveness, holders = HolderMonitor(work.runs), work.locks.all()
    held = {run_id: holder for run_id, holder in holders.items() if liveness(run_id, holder)}
    outdated = _outdated(work, held, liveness)
    if not all(spec.id in held.keys() - outdated.keys() or work.finished(spec) for spec in work.plan.runs):
        for processes in sorted({spec.recipe.processes for spec in work.plan.runs}):
            check_parameters(work.cluster, processes)
    if outdated:
        for run_id in _withdraw(work, held, outdated, say):
            del held[run_id]
        liveness = HolderMonitor(work.runs)
    known: dict[str, str] = {}  # the job of every run that others need
    left_out: dict[str, Failure] = {}
    submitted = arrays = 0
    for stage in work.plan.stages:
        groups: dict[tuple[str, int], list[RunSpec]] = defaultdict(list)
        for spec in stage:
            if work.finished(spec) or spec.id in held:
                continue
            failure = work.given_up(spec) or needs_failed(spec, left_out)
            try:
                after = [] if failure else [_job_of(work, needed, known, liveness) for needed in spec.needs]
            except UserError as error:
                failure = Failure(f"not submitted: {error}")
            if failure:
                left_out[spec.id] = failure
                continue
            jobs = sorted(job for job in after if job)
            groups[f"afterok:{':'.join(jobs)}" if jobs else "", spec.recipe.processes].append(spec)
        for (dependency, processes), specs in groups.items():
            for start in range(0, len(specs), work.cluster.array_size):
                part = specs[start : start + work.cluster.array_size]
                count = _submit_group(work, part, processes, dependency, liveness)
                submitted, arrays = submitted + count, arrays + (count > 0)
    finished = sum(work.finished(spec) for spec in work.plan.runs)
    others = len(work.plan.runs) - finished - submitted - len(left_out)
    say(
        f"submitted {plural(submitted, 'run')} in {plural(arrays, 'array')}"
        + (f"; {others} are in the queue already" if others else "")
    )
    _tell_hopeless(held, liveness, say)
    return left_out


def _outdated(work: Work, held: Mapping[str, LockHolder], liveness: HolderMonitor) -> dict[str, Queued]:
    """The waiting jobs, by run, that were submitted with other limits than are asked for now, and those that wait for
    one of them. Of what an earlier version submitted the limits are not known: those that can never start."""
    asked, found = job_limits(work.cluster), dict[str, Queued]()
    for spec in work.plan.runs:  # what a run needs comes before it
        holder = held.get(spec.id)
        queued = liveness.queued(holder) if holder and holder.batch else None
        if holder is None or queued is None or queued.state != "PENDING":
            continue
        before = asked_for(work.jobs, holder.batch)
        other = queued.hopeless if before is None else before != asked
        if other or any(needed.id in found for needed in spec.needs):
            found[spec.id] = queued
    return found


def _withdraw(
    work: Work, held: Mapping[str, LockHolder], outdated: Mapping[str, Queued], say: Callable[[str], None]
) -> list[str]:
    """Cancels the jobs unless they have just begun, and gives their runs back; returns which."""
    jobs = plural(len(outdated), "waiting job")
    try:
        cancel_jobs([queued.job for queued in outdated.values()], "--state=PENDING")
    except UserError as error:
        say(f"{jobs} asked for other limits than now, and not all can be replaced: {error}")
    liveness = HolderMonitor(work.runs)
    gone = [run_id for run_id in outdated if liveness.queued(held[run_id]) is None and not liveness.silent]
    for run_id in gone:
        work.locks.release(run_id, held[run_id].token)
    if gone:
        say(f"{jobs} asked for other limits than now: {plural(len(gone), 'job')} cancelled, to be submitted anew")
    return gone


def _tell_hopeless(held: Mapping[str, LockHolder], liveness: HolderMonitor, say: Callable[[str], None]) -> None:
    """Says which waiting jobs no time will start, and Slurm's reason."""
    reasons: dict[str, list[str]] = defaultdict(list)
    for run_id, holder in held.items():
        queued = liveness.queued(holder) if holder.batch else None
        if queued and queued.hopeless:
            reasons[queued.reason].append(run_id)
    for reason, ids in reasons.items():
        say(
            f"{plural(len(ids), 'job')} will never start as asked for ({reason}): change --set cluster.KEY=VALUE, and "
            f"start again; the first is that of {ids[0]}"
        )


def _job_of(work: Work, spec: RunSpec, known: dict[str, str], liveness: HolderMonitor) -> str:
    """The job that a run waits for: "" if the run is finished. UserError if there is no such job."""
    if spec.id not in known:
        known[spec.id] = _find_job(work, spec, liveness)
    return known[spec.id]


def _find_job(work: Work, spec: RunSpec, liveness: HolderMonitor) -> str:
    end = time.monotonic() + SUBMISSION_SECONDS
    while not work.finished(spec):
        holder = work.locks.holder(spec.id)
        if holder is None or not liveness(spec.id, holder):
            trainer = work.folder(spec).held_by()
            if work.finished(spec):
                break
            if trainer:
                raise UserError(f"it needs {spec.id}, which {trainer} trains; start again when that is done")
            raise UserError(f"it needs {spec.id}, which has no job")
        if not holder.batch:
            raise UserError(f"it needs {spec.id}, which {holder} trains; start again when that is done")
        queued = liveness.queued(holder)
        if holder.job or queued:
            return holder.job or (queued.job if queued else "")
        if time.monotonic() > end:
            raise UserError(f"it needs {spec.id}, which {holder} has not submitted for {SUBMISSION_SECONDS:.0f} s")
        time.sleep(0.5)  # another run_all.py is just submitting it
        liveness = liveness.renewed()
    return ""


def _submit_group(work: Work, specs: list[RunSpec], processes: int, dependency: str, liveness: HolderMonitor) -> int:
    """Claims the runs that are free and submits them as one array of jobs with so many processes each; how many these
    were."""
    name = new_submission(work.name)
    taken: list[tuple[RunSpec, LockHolder]] = []
    for spec in specs:
        holder = LockHolder(batch=name, index=len(taken))
        if work.acquire(spec, holder, liveness):
            work.start_afresh(spec)
            taken.append((spec, holder))
    if not taken:
        return 0
    code = this_code()
    tasks = [RunJob(spec_yaml(s), work.runs, work.execution, holder.token, work.plugins, code) for s, holder in taken]
    batch = Submission(
        work.runs, [spec.id for spec, _ in taken], work.cluster.retries.model_dump(), job_limits(work.cluster)
    )
    try:
        numbers = submit_runs(work.cluster, work.jobs, name, batch, tasks, processes, dependency)
    except UserError:
        for spec, holder in taken:
            work.locks.release(spec.id, holder.token)
        raise
    for (spec, holder), number in zip(taken, numbers, strict=True):
        work.locks.update(spec.id, with_job(holder, number))
    return len(taken)


def follow(work: Work, progress: Progress, left_out: dict[str, Failure]) -> dict[str, Failure]:
    """Waits until every run is finished, has failed, or has no job any more; failures by run id."""
    failures = dict(left_out)
    todo = {spec.id: spec for spec in work.plan.runs if not work.finished(spec) and spec.id not in failures}
    started, silent = file_time(work.jobs) or time.time(), ""
    for run_id, failure in failures.items():
        progress.say(f"{run_id}: {failure.message}")
    while todo:
        liveness = HolderMonitor(work.runs)
        alive = {run_id for run_id in todo if (holder := work.locks.holder(run_id)) and liveness(run_id, holder)}
        alive |= {run_id for run_id, spec in todo.items() if work.folder(spec).held_by()} | work.launched(liveness)[1]
        for spec in list(todo.values()):  # after the look at the queue: a job that was gone has written its last
            if work.finished(spec):
                del todo[spec.id]
                progress.finished(spec, read_json(work.folder(spec).result))
            elif spec.id not in alive:
                del todo[spec.id]
                failures[spec.id] = _why(work, spec, failures)
                progress.failed(spec.id, failures[spec.id].message)
            else:
                _show(work, spec, liveness, progress)
        if liveness.silent and not silent:
            progress.say(f"Slurm does not answer, which does not stop its jobs: {liveness.silent}")
        silent = liveness.silent
        if cancelled_since(work, started):
            raise KeyboardInterrupt
        if todo:
            time.sleep(work.cluster.poll_seconds)
    return failures


def _show(work: Work, spec: RunSpec, liveness: HolderMonitor, progress: Progress) -> None:
    """The row of a run that is alive: how far it is, or why it waits."""
    holder = work.locks.holder(spec.id)
    queued = liveness.queued(holder) if holder and (holder.job or holder.batch) else None
    standing = read_standing(work.folder(spec).path, 0.0)
    if queued and queued.state != "RUNNING":
        progress.hide(spec.id)
        progress.wait(spec.id, f"{queued.state.lower()}: {queued.reason}")
    elif standing:
        progress.show(spec.id, standing)
    else:
        progress.wait(spec.id, "is starting")


def _why(work: Work, spec: RunSpec, failures: dict[str, Failure]) -> Failure:
    """Why a run has neither result nor job."""
    blocked = needs_failed(spec, failures)
    if blocked:
        return blocked
    folder = work.folder(spec)
    if folder.failure.exists():
        data = folder.read_failure()
        return Failure(data["message"], data.get("kind") == "input")
    holder = work.locks.holder(spec.id)
    job = f"job {holder.job}" if holder and holder.job else "its job"
    return Failure(f"{job} has left the queue without a result: cancelled, or see {work.jobs} for what it printed")
