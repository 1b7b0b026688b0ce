"""Slurm jobs through submitit: their parameters, and what a job executes (one run, or all runs of a node)."""

import importlib.metadata
import os
import shlex
import shutil
import signal
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import yaml
from submitit import JobEnvironment, SlurmExecutor
from submitit.core.utils import FailedJobError, FailedSubmissionError, UncompletedJobError
from submitit.helpers import Checkpointable

from benchmarks.dispatch.cluster import ClusterSpec, minutes
from benchmarks.dispatch.job import Job
from benchmarks.dispatch.local import execute_here
from benchmarks.dispatch.retries import TERMINATED, last_lines
from benchmarks.dispatch.same_code import Code, shell_lines
from benchmarks.dispatch.slurm_queue import check_time, slurm
from benchmarks.dispatch.worker import execute, prepare
from benchmarks.planning.plan import make_plan
from sskd.console.progress import Progress
from sskd.console.signals import Stopped, StopSignal, stop_signal
from sskd.errors import UserError, nearest
from sskd.runs.files import plain_os_errors
from sskd.runs.plugins import load_plugins
from sskd.runs.run_folder import RunFolder
from sskd.runs.spec import parse_spec
from sskd.training.run import Interrupted

SUBMITIT = "1.5.4"  # tested version, whose private interface is used; see constraints.txt
TIMEOUTS = 1000  # number of time limits after which a job is given up
LOST_SECONDS = 300.0  # time limit for the file system to free the lock of a lost node

# --- jobs -------------------------------------------------------------------------------------------------------------


@dataclass
class RunJob(Checkpointable):
    """Trains one run. When told to stop, it saves immediately, within the epoch, and lets submitit requeue it."""

    spec_yaml: str
    job: Job  # without its plan
    code: Code  # code of the submitting suite

    def __call__(self) -> str:
        """Trains the run and returns its id. Without a result it exits with a status for
        benchmarks.dispatch.retries."""
        job = self.job
        load_plugins(job.plugins)
        spec = parse_spec(yaml.safe_load(self.spec_yaml), "a submitted run")
        folder, environment = job.folder(spec), JobEnvironment()
        is_rank_zero = environment.global_rank == 0  # rank 0 logs and decides for all processes of the run
        usr2 = environment._usr_sig()
        requeue: Any = signal.getsignal(usr2)
        with stop_signal(usr2, signal.SIGTERM) as stop:
            if is_rank_zero and not folder.is_finished():
                _wait_for_lock(folder, stop)
            if folder.is_finished():
                return spec.id
            try:
                failure = execute(spec, job, stop, self.code, environment, log=partial(print, flush=True))
            except Interrupted:
                if is_rank_zero and stop.received == usr2:
                    _requeue(folder, partial(requeue, usr2, None))
                if not is_rank_zero:
                    return spec.id
                raise SystemExit(TERMINATED) from None
        if failure:
            print(f"{spec.id} failed: {failure.message}", flush=True)
            raise SystemExit(TERMINATED if failure.kind == "held" else 1)
        return spec.id


def _wait_for_lock(folder: RunFolder, stop: StopSignal) -> None:
    """Waits for another process that trains the run. If its node was lost, the file system frees the lock after a
    while."""
    end = time.monotonic() + LOST_SECONDS
    while (holder := folder.lock_holder()) and time.monotonic() < end and not stop():
        print(f"waiting for {holder}, which trains this run", flush=True)
        time.sleep(5)


def _requeue(folder: RunFolder, requeue: Callable[[], None]) -> None:
    """Lets submitit store this job, requeue it and exit: status 255, or 1 after too many time limits."""
    try:
        requeue()
    except UncompletedJobError as error:
        folder.save_failure(f"stopped at its time limit too often: {error}", "timeout", last_lines(folder.path))
        raise SystemExit(1) from None


@dataclass
class PoolJob(Checkpointable):
    """Executes runs on all GPUs of its node, as ``--cluster local`` does. Before its time limit the runs are saved, and
    submitit requeues it."""

    specs: list[str]  # as YAML
    job: Job  # without its plan
    code: Code  # code of the submitting suite

    def __call__(self) -> None:
        prepare(self.code, self.job.plugins)
        plan = make_plan(parse_spec(yaml.safe_load(text), "a submitted run") for text in self.specs)
        again = self.job.retry_failed and "SLURM_RESTART_COUNT" not in os.environ  # later failures are final
        job = replace(self.job, plan=plan, retry_failed=again)
        usr2 = JobEnvironment()._usr_sig()
        requeue: Any = signal.getsignal(usr2)
        with _as_sigterm(usr2) as came, Progress(len(job.unfinished)) as progress:
            try:
                execute_here(job, progress)
            except Stopped as end:
                if came.is_set():
                    requeue(usr2, None)
                raise SystemExit(end.status) from None


@contextmanager
def _as_sigterm(number: signal.Signals) -> Iterator[threading.Event]:
    """Converts the signal to SIGTERM for this process within the block, and sets the event. Slurm signals all processes
    of a job, so the signal is blocked here and in all started processes."""
    came = threading.Event()

    def receive(*_: object) -> None:
        came.set()
        os.kill(os.getpid(), signal.SIGTERM)

    before = signal.signal(number, receive)  # for threads of libraries that do not block the signal
    signal.pthread_sigmask(signal.SIG_BLOCK, {number})
    threading.Thread(target=lambda: receive(signal.sigwait({number})), daemon=True).start()
    try:
        yield came
    finally:
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {number})
        signal.signal(number, before)


# --- submission ------------------------------------------------------------------------------------------------------


@contextmanager
def _private_to_submitit() -> Iterator[None]:
    """Guards the use of submitit's private interface: raises UserError with a remedy if this version lacks it."""
    try:
        yield
    except (ImportError, AttributeError, TypeError) as error:
        raise UserError(
            f"this submitit ({importlib.metadata.version('submitit')}) differs from the tested version "
            f"({error}): pip install 'submitit=={SUBMITIT}', or use --cluster local"
        ) from None


def submitit_parameters() -> dict[str, Any]:
    """Returns the names and defaults of submitit's own Slurm parameters; other names are options of sbatch."""
    with _private_to_submitit():
        from submitit.slurm.slurm import _get_default_parameters

        return dict(_get_default_parameters())


def make_executor(
    cluster: ClusterSpec, jobs: Path, submission: Path, processes: int = 1, dependency: str = ""
) -> SlurmExecutor:
    """Returns submitit's executor for runs with ``processes`` processes.

    Each process is a Slurm task with its part of the run's cores and its own GPU (if any); tasks are spread evenly over
    the nodes (cluster.nodes, default 1). With cluster.pools a job is one task with all of its node. Raises UserError
    for parameters that submitit rejects, or processes that cannot be spread evenly.
    """
    if shutil.which("sbatch") is None or shutil.which("srun") is None:
        raise UserError(
            f"cluster '{cluster.name}': there is no sbatch on the PATH: "
            f"start the command on a machine of the cluster, or use --cluster local"
        )
    given = dict(cluster.parameters)
    nodes = given.get("nodes", 1) if processes > 1 else 1
    if processes % nodes:
        raise UserError(f"cluster '{cluster.name}': {processes} processes cannot be spread evenly over {nodes} nodes")
    given |= {"nodes": nodes, "ntasks_per_node": processes // nodes}
    if cluster.cpus_per_run and not cluster.pools:
        given.setdefault("cpus_per_task", max(1, cluster.cpus_per_run // processes))
    if cluster.gpus_per_run and not cluster.pools:
        given.setdefault("gpus_per_node", -(-max(cluster.gpus_per_run, processes) // nodes))
    if "mem_gb" in given:
        given["mem"] = f"{round(1024 * given.pop('mem_gb'))}M"
    if "time" in given:
        given["time"] = minutes(given["time"])
    known = submitit_parameters()
    sbatch = {name.replace("_", "-"): given.pop(name) for name in list(given) if name not in known}
    given["setup"] = [*given.get("setup", []), *shell_lines()]
    if cluster.pools:
        given["srun_args"] = [*given.get("srun_args", []), "--cpu-bind=none"]
    else:
        after = f"{shlex.quote(sys.executable)} -m benchmarks.dispatch.retries {shlex.quote(str(submission))}"
        given["teardown"] = ["status=$?", *given.get("teardown", []), f"[ $status -eq 0 ] || {after} $status"]
    if "cpus_per_task" in given:  # srun no longer inherits it from sbatch
        given["srun_args"] = [*given.get("srun_args", []), f"--cpus-per-task={given['cpus_per_task']}"]
    extra = {"requeue": True, "kill-on-invalid-dep": "yes"} | given.pop("additional_parameters", {}) | sbatch
    executor = SlurmExecutor(jobs, max_num_timeout=TIMEOUTS)
    executor.update_parameters(
        **{"array_parallelism": cluster.array_width, "signal_delay_s": cluster.signal_seconds}
        | {"job_name": submission.stem}
        | given
        | ({"dependency": dependency} if dependency else {}),
        additional_parameters=extra,
    )
    return executor


def check_parameters(cluster: ClusterSpec, processes: int = 1) -> None:
    """Lets Slurm check a job without submitting it. Raises UserError with Slurm's message if it would be rejected."""
    with tempfile.TemporaryDirectory() as folder:
        executor, script = make_executor(cluster, Path(folder), Path(folder) / "test.json", processes), "test.sh"
        with _private_to_submitit():
            text = executor._make_submission_file_text("true", "test")
        (Path(folder) / script).write_text(text, encoding="utf-8")
        try:
            slurm("sbatch", "--test-only", str(Path(folder) / script))
        except UserError as error:
            raise UserError(f"cluster '{cluster.name}': {error}{_hint(str(error), cluster)}") from None
    check_time(cluster)


def _hint(words: str, cluster: ClusterSpec) -> str:
    for name in cluster.parameters:
        near = nearest(name, [*ClusterSpec.model_fields, *submitit_parameters()])
        if f"--{name.replace('_', '-')}" in words and near:
            return f" (did you mean '{near}'?)"
    return ""


def submit_jobs(
    cluster: ClusterSpec, jobs: Path, submission: Path, job: Sequence[Callable[[], Any]], processes: int, after: str
) -> list[str]:
    """Submits an array (for a single job: a plain job) and returns the jobs' numbers in order. Raises UserError with
    sbatch's message if it is rejected."""
    try:
        with plain_os_errors("write", jobs):
            executor = make_executor(cluster, jobs, submission, processes, after)
            return [job.job_id for job in executor.submit_array(list(job))]
    except (FailedJobError, FailedSubmissionError) as error:
        raise UserError(f"cluster '{cluster.name}': sbatch rejects the job: {' '.join(str(error).split())}") from None
