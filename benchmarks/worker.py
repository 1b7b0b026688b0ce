"""One run in a process of its own: what local processes and Slurm jobs execute."""

import dataclasses
import json
import os
import signal
import socket
import sys
import time
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import torch
import yaml
from submitit import JobEnvironment
from submitit.core.utils import UncompletedJobError
from submitit.helpers import Checkpointable, TorchDistributedEnvironment

from benchmarks.locks import Claims, Owner
from benchmarks.plugins import load_plugins
from benchmarks.retries import TERMINATED, forget_attempts, last_lines
from sskd.config import Execution, RunSpec, from_dict
from sskd.distributed import lost_touch
from sskd.errors import UserError
from sskd.folder import RunFolder, RunHeld
from sskd.processes import take_part, train_in_processes
from sskd.signals import StopSignal, stop_signal
from sskd.training import Interrupted, Report, train

PROGRESS_SECONDS = 2.0  # between two writes of progress.json


class Failure(NamedTuple):
    """Why a run has no result. ``input_is_bad``: it is the user's to mend, and not a fault of ours."""

    message: str
    input_is_bad: bool = False


def attempt(spec: RunSpec, runs: Path, action: Callable[[], None]) -> Failure | None:
    """Does ``action``; where it fails, notes why in the run's folder and returns it. Interrupted passes through."""
    try:
        action()
    except Interrupted:
        raise
    except RunHeld as error:  # nothing is noted: the folder is another's
        return Failure(str(error), input_is_bad=True)
    except UserError as error:
        failure, details, kind = Failure(str(error), input_is_bad=True), str(error), "input"
    except Exception as error:  # a run's failure must not cost the others; the whole story is in its log
        if lost_touch(error):  # nothing is noted: the process that went has done it, or was lost
            return Failure(f"another process of the run has ended ({' '.join(str(error).split())[:150]})")
        failure = Failure(f"{type(error).__name__}: {' '.join(str(error).split())}")
        details, kind = traceback.format_exc(), "out_of_memory" if is_out_of_memory(error) else "exception"
    else:
        return None
    folder = RunFolder(runs, spec)
    try:
        log_line(folder.path, details)
        folder.save_failure(failure.message, kind, last_lines(folder.path))
    except (OSError, UserError):
        pass  # the disk is full or read-only: then that is the message already
    return failure


def is_out_of_memory(error: Exception) -> bool:
    """On the GPU, or on the CPU where the system said so instead of killing the process."""
    return isinstance(error, torch.OutOfMemoryError | MemoryError) or "not enough memory" in str(error)


class ProgressFile:
    """Keeps ``progress.json`` in the run's folder: how far it is, for --status in another process."""

    def __init__(self, folder: Path, job: str = "") -> None:
        self._path, self._job = folder / "progress.json", job
        self._started = time.time()
        self._first: float | None = None  # how much was done when we started: it may be resumed
        self._written = 0.0
        self._score: float | None = None

    def __call__(self, report: Report) -> None:
        done = report.epoch - 1 + report.step / report.steps
        self._first = done - 1 / report.steps if self._first is None else min(self._first, done)
        if report.row:
            self._score = report.row.get("test_top1", report.row.get("test_head_top1"))
        now = time.time()
        if now - self._written < PROGRESS_SECONDS:
            return
        self._written = now
        rate = (done - self._first) / max(now - self._started, 1e-9)
        data = {
            "stage": report.stage,
            "epoch": report.epoch,
            "epochs": report.epochs,
            "top1": self._score,
            "images_per_second": round(report.images_per_second, 1),
            "seconds_left": round((report.epochs - done) / rate) if rate > 0 else None,
            "host": socket.gethostname(),
            "job": self._job,
            "time": now,
        }
        partial = self._path.with_name(f"progress.{os.getpid()}.partial")
        try:
            partial.write_text(json.dumps(data))
            os.replace(partial, self._path)
        except OSError:  # a full disk: the run itself will say so
            partial.unlink(missing_ok=True)


@dataclass
class RunJob(Checkpointable):
    """Trains one run. Told to stop it saves at once, inside the epoch, and has submitit requeue it as it is."""

    spec_yaml: str
    runs: Path
    execution: Execution
    token: str  # of the claim under which it was started
    plugins: tuple[str, ...] = ()
    cores: tuple[int, ...] = ()  # the process is pinned to
    gpus: tuple[str, ...] | None = None  # the process sees; None: what the cluster gives it

    def __call__(self) -> str:
        """Returns the run's id. Exits as benchmarks.retries expects it where there is no result."""
        self._pin()
        load_plugins(self.plugins)
        spec: RunSpec = from_dict(RunSpec, yaml.safe_load(self.spec_yaml), "a submitted run")
        claims = Claims(self.runs.parent / "jobs" / "claims")
        folder = RunFolder(self.runs, spec)
        if folder.result.exists():
            return spec.id
        environment = JobEnvironment()
        job = environment.job_id if environment.name() == "slurm" else ""
        first = environment.global_rank == 0  # of a run of several processes one speaks and decides for all
        owner = claims.owner(spec.id)
        if owner is None or owner.token != self.token:
            print(f"{spec.id} is not ours any more: {owner or 'nobody'} has it", flush=True)
            raise SystemExit(TERMINATED)
        mine = dataclasses.replace(Owner(), token=self.token, batch=owner.batch, index=owner.index, job=job)
        if first:
            claims.update(spec.id, mine)
        usr2 = environment._usr_sig()
        requeue: Any = signal.getsignal(usr2)
        with stop_signal(usr2, signal.SIGTERM) as stop:
            try:
                tasks = environment if environment.num_tasks > 1 else None
                name = job or str(os.getpid())
                failure = attempt(spec, self.runs, lambda: self._train(spec, folder, name, stop, tasks))
            except Interrupted as reason:
                if not first:
                    return spec.id
                log_line(folder.path, f"{stop.received.name if stop.received else ''}: {reason}")
                if stop.received == usr2:
                    _requeue(folder, lambda: requeue(usr2, None))
                raise SystemExit(TERMINATED) from None
        if failure:
            print(f"{spec.id} failed: {failure.message}", flush=True)
            raise SystemExit(1)
        if first:
            forget_attempts(self.runs, spec.id)
            claims.forget(spec.id)
        return spec.id

    def _pin(self) -> None:
        if self.gpus is not None:
            os.environ["CUDA_VISIBLE_DEVICES"] = ",".join(self.gpus)  # before CUDA is first asked for
        if self.cores and hasattr(os, "sched_setaffinity"):
            os.sched_setaffinity(0, self.cores)
        cores = len(self.cores) or int(os.environ.get("SLURM_CPUS_PER_TASK", "0"))
        if cores:
            torch.set_num_threads(cores)

    def _train(
        self, spec: RunSpec, folder: RunFolder, job: str, stop: StopSignal, tasks: JobEnvironment | None = None
    ) -> None:
        """``tasks``: the job's, where each is one of the run's processes."""
        folder.create()
        execution = self.execution
        if tasks is not None:
            execution = _join(tasks, execution)
            if tasks.global_rank > 0:
                train(spec, self.runs, execution, should_stop=stop)
                return
        log_line(folder.path, f"started: job {job} on {socket.gethostname()}, {' '.join(sys.version.split()[:1])}")
        progress = ProgressFile(folder.path, job)

        def report(step: Report) -> None:
            progress(step)
            if step.row:
                shown = {k: v for k, v in step.row.items() if k.startswith("test_") or k == "loss"}
                numbers = ", ".join(f"{name} {value:.4g}" for name, value in shown.items())
                log_line(folder.path, f"{step.stage} epoch {step.epoch}/{step.epochs}: {numbers}")

        say = partial(log_line, folder.path)
        if tasks is not None:
            result = train(spec, self.runs, execution, report, say, stop)
        else:
            load = partial(load_plugins, self.plugins)
            result = train_in_processes(spec, self.runs, execution, report, say, stop, load)
        log_line(folder.path, f"finished after {result['seconds']} s of training")


def _join(environment: JobEnvironment, execution: Execution) -> Execution:
    """Makes this task of a job one of the run's processes."""
    TorchDistributedEnvironment().export(set_cuda_visible_devices=False, overwrite=True)
    return take_part(environment.global_rank, environment.local_rank, environment.num_tasks, "env://", execution)


def _requeue(folder: RunFolder, requeue: Callable[[], None]) -> None:
    """Has submitit write this job for its next start, requeue it, and exit: with 255, or 1 if that was too often."""
    try:
        requeue()
    except UncompletedJobError as error:
        folder.save_failure(f"stopped at its time limit too often: {error}", "timeout", last_lines(folder.path))
        raise SystemExit(1) from None


def log_line(folder: Path, text: str) -> None:
    """Adds to a run's log, each line with the time, and prints it. What cannot be written is only printed."""
    stamped = "".join(f"{time.strftime('%Y-%m-%d %H:%M:%S')} {line}\n" for line in text.rstrip().splitlines())
    print(stamped, end="", flush=True)
    try:
        with (folder / "log.txt").open("a") as log:
            log.write(stamped)
    except OSError:
        pass
