"""Trains one run with its log, progress file and failure: what slots execute, and jobs of Slurm."""

import dataclasses
import json
import os
import platform
import signal
import time
import traceback
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import torch
import yaml
from submitit import JobEnvironment
from submitit.core.utils import UncompletedJobError
from submitit.helpers import Checkpointable, TorchDistributedEnvironment

from benchmarks.dispatch.retries import TERMINATED, forget_attempts, last_lines
from benchmarks.dispatch.run_lock import LockHolder, RunLocks
from benchmarks.dispatch.same_code import Code, refuse_other_code, this_code
from sskd.config.execution import Execution
from sskd.console.progress import Pace, Standing
from sskd.console.signals import StopSignal, stop_signal
from sskd.errors import UserError
from sskd.runs.files import append_line
from sskd.runs.plugins import load_plugins
from sskd.runs.run_folder import RunFolder, RunHeld
from sskd.runs.spec import RunSpec, parse_spec
from sskd.runtime.device import cores_and_gpus, threads_of, with_threads
from sskd.runtime.distributed import is_peer_failure
from sskd.runtime.machine import host
from sskd.training.processes import init_distributed, train_in_processes
from sskd.training.run import Interrupted, OnStep, StepEvent, train

PROGRESS_SECONDS = 2.0  # between two writes of progress.json


class Failure(NamedTuple):
    """Why a run has no result. ``input_is_bad``: it is the user's to mend, and not a fault of ours."""

    message: str
    input_is_bad: bool = False


def attempt(spec: RunSpec, runs: Path, action: Callable[[], object]) -> Failure | None:
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
        if is_peer_failure(error):  # nothing is noted: the process that went has done it, or was lost
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
    """Keeps ``progress.json`` in the run's folder: how far it is, for displays and ``status`` in another process."""

    def __init__(self, folder: Path, job: str = "", cores: int = 0, gpus: int = 0) -> None:
        self._path, self._job = folder / "progress.json", job
        self._cores, self._gpus = cores, gpus
        self._pace = Pace()
        self._written = 0.0

    def __call__(self, event: StepEvent) -> None:
        standing = self._pace(event)._replace(cores=self._cores, gpus=self._gpus)
        now = time.time()
        if now - self._written < PROGRESS_SECONDS:
            return
        self._written = now
        data = standing._asdict() | {"host": host(), "job": self._job, "time": now}
        partial = self._path.with_name(f"progress.{os.getpid()}.partial")
        try:
            partial.write_text(json.dumps(data), encoding="utf-8")
            os.replace(partial, self._path)
        except OSError:  # a full disk: the run itself will say so
            partial.unlink(missing_ok=True)


def read_standing(folder: Path, since: float) -> Standing | None:
    """How far a run says it is in its ``progress.json``; None if it has not said so since then (a time)."""
    try:
        data = json.loads((folder / "progress.json").read_text(encoding="utf-8"))
        known = {name: data[name] for name in Standing._fields if name in data}
        return Standing(**known) if data["time"] >= since else None
    except (OSError, ValueError, KeyError, TypeError):
        return None


def execute(
    spec: RunSpec,
    runs: Path,
    execution: Execution,
    stop: StopSignal,
    plugins: tuple[str, ...] = (),
    *,
    job: str = "",
    tasks: JobEnvironment | None = None,
    show: OnStep = lambda event: None,
    say: Callable[[str], None] = lambda _: None,
) -> dict[str, Any]:
    """Trains the run and keeps its log.txt and progress.json; ``show`` and ``say`` are told what a person may see.

    ``job``: of Slurm. ``tasks``: the job's, where each is one of the run's processes. Raises what training raises;
    Interrupted when ``stop`` asks for it.
    """
    folder, job = RunFolder(runs, spec), job or str(os.getpid())
    folder.create()
    execution = with_threads(execution, threads_of(execution))
    if tasks is not None:
        execution = _join(tasks, execution)
        if tasks.global_rank > 0:
            return train(spec, runs, execution, should_stop=stop)
    log_line(folder.path, f"started: job {job} on {host()}, Python {platform.python_version()}")
    progress = ProgressFile(folder.path, job, *cores_and_gpus(execution, spec.recipe.processes))

    def on_step(event: StepEvent) -> None:
        progress(event)
        show(event)
        if event.row:
            shown = {k: v for k, v in event.row.items() if k.startswith("test_") or k == "loss"}
            numbers = ", ".join(f"{name} {value:.4g}" for name, value in shown.items())
            log_line(folder.path, f"{event.stage} epoch {event.epoch}/{event.epochs}: {numbers}")

    def note(line: str) -> None:
        log_line(folder.path, line)
        say(line)

    try:
        if tasks is not None:
            result = train(spec, runs, execution, on_step, note, stop)
        else:
            prepare = partial(_prepare, this_code(), plugins)
            result = train_in_processes(spec, runs, execution, on_step, note, stop, prepare)
    except Interrupted as reason:
        log_line(folder.path, f"{stop.received.name if stop.received else ''}: {reason}")
        raise
    log_line(folder.path, f"finished after {result['seconds']} s of training")
    return result


def _prepare(code: Code, plugins: tuple[str, ...]) -> None:
    """What each of a run's several processes does first."""
    refuse_other_code(code)
    load_plugins(plugins)


def still_ours(locks: RunLocks, run_id: str, token: str, job: str = "", speaks: bool = True) -> bool:
    """Puts this process's name on the claim under which its run was started; False if that claim is another's now.
    ``speaks``: False for a process that leaves that to the first of its run's."""
    holder = locks.holder(run_id)
    if holder is None or holder.token != token:
        print(f"{run_id} is not ours any more: {holder or 'nobody'} has it", flush=True)
        return False
    if speaks:
        locks.update(
            run_id, dataclasses.replace(LockHolder(), token=token, batch=holder.batch, index=holder.index, job=job)
        )
    return True


@dataclass
class RunJob(Checkpointable):
    """Trains one run as a job of Slurm. Told to stop it saves at once, inside the epoch, and has submitit requeue it
    as it is."""

    spec_yaml: str
    runs: Path
    execution: Execution
    token: str  # of the claim under which it was started
    plugins: tuple[str, ...] = ()
    code: Code | None = None  # of the suite that submitted it; None of earlier versions

    def __call__(self) -> str:
        """Returns the run's id. Exits as benchmarks.dispatch.retries expects it where there is no result."""
        load_plugins(self.plugins)
        spec = parse_spec(yaml.safe_load(self.spec_yaml), "a submitted run")
        locks = RunLocks(self.runs.parent / "jobs" / "claims")
        folder = RunFolder(self.runs, spec)
        if folder.is_finished():
            return spec.id
        environment = JobEnvironment()
        job = environment.job_id if environment.name() == "slurm" else ""
        first = environment.global_rank == 0  # of a run of several processes one speaks and decides for all
        if not still_ours(locks, spec.id, self.token, job, speaks=first):
            raise SystemExit(TERMINATED)
        usr2 = environment._usr_sig()
        requeue: Any = signal.getsignal(usr2)
        tasks = environment if environment.num_tasks > 1 else None
        with stop_signal(usr2, signal.SIGTERM) as stop:
            run: Callable[[], object] = partial(
                execute, spec, self.runs, self.execution, stop, self.plugins, job=job, tasks=tasks, say=_print
            )
            if self.code:
                run = partial(_checked, self.code, run)
            try:
                failure = attempt(spec, self.runs, run)
            except Interrupted:
                if not first:
                    return spec.id
                if stop.received == usr2:
                    _requeue(folder, lambda: requeue(usr2, None))
                raise SystemExit(TERMINATED) from None
        if failure:
            print(f"{spec.id} failed: {failure.message}", flush=True)
            raise SystemExit(1)
        if first:
            forget_attempts(self.runs, spec.id)
            locks.delete(spec.id)
        return spec.id


def _checked(code: Code, run: Callable[[], object]) -> object:
    refuse_other_code(code)
    return run()


def _print(line: str) -> None:
    print(line, flush=True)


def _join(environment: JobEnvironment, execution: Execution) -> Execution:
    """Makes this task of a job one of the run's processes."""
    TorchDistributedEnvironment().export(set_cuda_visible_devices=False, overwrite=True)
    return init_distributed(environment.global_rank, environment.local_rank, environment.num_tasks, "env://", execution)


def _requeue(folder: RunFolder, requeue: Callable[[], None]) -> None:
    """Has submitit write this job for its next start, requeue it, and exit: with 255, or 1 if that was too often."""
    try:
        requeue()
    except UncompletedJobError as error:
        folder.save_failure(f"stopped at its time limit too often: {error}", "timeout", last_lines(folder.path))
        raise SystemExit(1) from None


def log_line(folder: Path, text: str) -> None:
    """Adds to a run's log, each line with the time. What cannot be written is printed."""
    now = time.strftime("%Y-%m-%d %H:%M:%S")
    stamped = "\n".join(f"{now} {line}" for line in text.rstrip().splitlines())
    try:
        append_line(folder / "log.txt", stamped)
    except OSError:
        with suppress(OSError):  # what is printed may go to the same full disk
            print(stamped, flush=True)
