"""Whole nodes of Slurm: jobs that each run a local pool over their node's GPUs (benchmarks.dispatch.pool_job).

A job is a launcher like a run_all.py that somebody has started on the node: it claims what is free, run by run. Before
its time limit it is told to save, and requeues itself.
"""

import shlex
import sys
from collections.abc import Callable
from pathlib import Path

from benchmarks.dispatch.cluster import ClusterSpec, job_limits
from benchmarks.dispatch.retries import Submission
from benchmarks.dispatch.run_lock import LockHolder
from benchmarks.dispatch.same_code import shell_lines, this_code
from benchmarks.dispatch.slurm_queue import (
    HolderMonitor,
    asked_for,
    batch_file,
    cancel_jobs,
    check_script,
    job_name,
    make_executor,
    new_submission,
    script_of,
    slurm,
)
from benchmarks.dispatch.work import Work, needs_failed, with_job
from benchmarks.dispatch.worker import Failure
from sskd.errors import UserError
from sskd.formatting import plural
from sskd.runs.files import plain_os_errors, write_json
from sskd.runs.spec import spec_yaml

OWN = ("runs_at_once", "gpus_per_run", "runs_per_gpu", "cpus_per_run", "memory_gb_per_run", "retries")  # the pool's


def submit_pools(work: Work, say: Callable[[str], None]) -> dict[str, Failure]:
    """Submits cluster.pools jobs for what is neither finished, nor given up, nor somebody's; returns what was given up,
    by run."""
    liveness = HolderMonitor(work.runs)
    _withdraw(work, liveness, say)
    held = {run_id for run_id, holder in work.locks.all().items() if liveness(run_id, holder)}
    _, planned = work.launched(liveness)
    left_out: dict[str, Failure] = {}
    free = 0
    for spec in work.plan.runs:
        if work.finished(spec):
            continue
        if failure := work.given_up(spec) or needs_failed(spec, left_out):
            left_out[spec.id] = failure
        elif spec.id not in held | planned:
            free += 1
    count = (work.cluster.pools or 1) if free else 0
    if count:
        check_script(work.cluster, _script(work, "test"))
    for _ in range(count):
        _submit(work)
    others = sum(not work.finished(spec) for spec in work.plan.runs) - free - len(left_out)
    say(
        f"submitted {plural(count, 'job')} of a whole node for {plural(free, 'run')}"
        + (f"; {others} are in the queue already" if others else "")
    )
    return left_out


def _withdraw(work: Work, liveness: HolderMonitor, say: Callable[[str], None]) -> None:
    """Cancels waiting jobs that asked for other limits than now, and forgets the claims of jobs that are gone."""
    for name, holder in work.launchers.all().items():
        if not holder.batch:
            continue
        queued = liveness.queued(holder)
        if queued and queued.state == "PENDING" and asked_for(work.jobs, holder.batch) != job_limits(work.cluster):
            cancel_jobs([queued.job], "--state=PENDING")
            say(f"job {queued.job} waits with other limits than asked for now: cancelled, to be submitted anew")
            work.launchers.delete(name)
        elif not liveness(name, holder):
            work.launchers.delete(name)


def _submit(work: Work) -> None:
    """Writes what the job is to do, and submits it. UserError with Slurm's words if it refuses."""
    batch = new_submission(work.name)
    holder, cluster = LockHolder(batch=batch), work.cluster
    file = batch_file(work.jobs, batch)
    with plain_os_errors("write", work.jobs):
        Submission(work.runs, [], cluster.retries.model_dump(), job_limits(cluster)).save(file)
        pool = cluster.model_dump(mode="json", include=set(OWN)) | {"name": cluster.name, "about": cluster.about}
        note = {
            "specs": [spec_yaml(spec) for spec in work.plan.runs],
            "runs": str(work.runs),
            "execution": work.execution.model_dump(mode="json"),
            "cluster": pool | {"kind": "local", "poll_seconds": min(0.5, cluster.poll_seconds)},
            "plugins": list(work.plugins),
            "retry_failed": work.retry_failed,
            "launcher": work.launcher_name(holder),
            "code": list(this_code()),
        }
        write_json(file.with_suffix(".pool"), note)
        script = file.with_suffix(".sh")
        script.write_text(_script(work, batch), encoding="utf-8")
        work.note_launcher(holder)
    try:
        number = slurm("sbatch", "--parsable", str(script)).partition(";")[0].strip()
    except UserError:
        work.launchers.delete(work.launcher_name(holder))
        raise
    work.launchers.update(work.launcher_name(holder), with_job(holder, number))


def _script(work: Work, batch: str) -> str:
    """The job's script. Slurm signals the shell alone, which has the pool save and end before it requeues the job."""
    cluster: ClusterSpec = work.cluster.model_copy(update={"gpus_per_run": 0, "cpus_per_run": None})
    made = script_of(make_executor(cluster, work.jobs, Path(job_name(batch))))
    ours = ("--signal", "--output", "--error")
    head = [line for line in made if line.startswith("#SBATCH") and not any(option in line for option in ours)]
    output = f"#SBATCH --output={shlex.quote(str(work.jobs / '%j_log.out'))}"
    program = f"{shlex.quote(sys.executable)} -m benchmarks.dispatch.pool_job "
    program += shlex.quote(str(batch_file(work.jobs, batch).with_suffix(".pool")))
    lines = [
        *("#!/bin/bash", *head, output, f"#SBATCH --signal=B:USR2@{cluster.signal_seconds}"),
        *(*cluster.parameters.get("setup", []), *shell_lines()),
        "trap 'again=1; kill -TERM $pool' USR2",
        f"{program} &",
        "pool=$!",
        "wait $pool; status=$?",
        "while kill -0 $pool 2>/dev/null; do wait $pool; status=$?; done",
        *cluster.parameters.get("teardown", []),
        '[ -z "$again" ] || scontrol requeue $SLURM_JOB_ID',
        "exit $status",
    ]
    return "".join(f"{line}\n" for line in lines)
