"""Trains one run with its log, progress file and failure; used by slots and Slurm jobs."""

import json
import os
import platform
import time
import traceback
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from pathlib import Path

from pydantic import TypeAdapter
from submitit import JobEnvironment
from submitit.helpers import TorchDistributedEnvironment

from benchmarks.dispatch.job import Failure, Job
from benchmarks.dispatch.retries import last_lines, log_line
from benchmarks.dispatch.same_code import Code, refuse_other_code, this_code
from sskd.console.progress import Pace, Standing
from sskd.console.signals import StopSignal
from sskd.errors import UserError
from sskd.runs.files import write_json
from sskd.runs.plugins import load_plugins
from sskd.runs.run_folder import RunLocked
from sskd.runs.spec import RunSpec
from sskd.runtime.device import cores_and_gpus, threads_of, with_threads
from sskd.runtime.distributed import is_peer_failure
from sskd.runtime.machine import host
from sskd.training.processes import init_distributed, train_in_processes
from sskd.training.run import Interrupted, StepEvent, train

PROGRESS = "progress.json"
PROGRESS_SECONDS = 2.0  # interval of writes
STANDING = TypeAdapter(Standing)


class ProgressFile:
    """Writes ``progress.json`` in the run's folder: the progress, for displays and ``status`` in other processes."""

    def __init__(self, folder: Path, job: str = "", cores: int = 0, gpus: int = 0) -> None:
        self._path, self._job = folder / PROGRESS, job
        self._cores, self._gpus = cores, gpus
        self._pace = Pace()
        self._written = 0.0

    def __call__(self, event: StepEvent) -> Standing:
        standing = self._pace(event)._replace(cores=self._cores, gpus=self._gpus)
        now = time.time()
        if now - self._written >= PROGRESS_SECONDS:
            self._written = now
            with suppress(UserError):  # a full disk, which the run itself will report
                write_json(self._path, standing._asdict() | {"host": host(), "job": self._job, "time": now}, sync=False)
        return standing


def read_standing(folder: Path, since: float = 0.0) -> Standing | None:
    """Returns the progress in a run's ``progress.json``; None if it is older than ``since`` (a time) or cannot be
    read."""
    try:
        data = json.loads((folder / PROGRESS).read_bytes())
        standing = STANDING.validate_python({name: data[name] for name in Standing._fields})
        return standing if data["time"] >= since else None
    except (OSError, ValueError, RecursionError, KeyError, TypeError):
        return None


def execute(
    spec: RunSpec,
    job: Job,
    stop: StopSignal,
    code: Code | None = None,
    slurm: JobEnvironment | None = None,
    show: Callable[[Standing], None] = lambda _: None,
    log: Callable[[str], None] = lambda _: None,
) -> Failure | None:
    """Trains the run and writes its log.txt and progress.json. If it fails, stores the reason in its folder and returns
    it. Raises Interrupted if ``stop`` requests it.

    code: other code is refused. slurm: the Slurm job of this process, with one task per process of the run. show:
    receives the progress after every step. log: receives messages for the user.
    """
    try:
        if code is not None:
            refuse_other_code(code)
        _train(spec, job, stop, slurm, show, log)
    except Interrupted:
        raise
    except RunLocked as error:  # not stored: another process owns the folder
        return Failure(str(error), "held")
    except UserError as error:
        failure, details = Failure(str(error), "input"), str(error)
    except Exception as error:  # other runs must continue; the log has the traceback
        if is_peer_failure(error):  # not stored: the process that ended has done it, or was lost
            return Failure(f"another process of the run has ended ({' '.join(str(error).split())[:150]})")
        failure = Failure(f"{type(error).__name__}: {' '.join(str(error).split())}")
        details = traceback.format_exc()
    else:
        return None
    folder = job.folder(spec)
    with suppress(OSError, UserError):  # a full or read-only disk, which is the failure itself
        folder.path.mkdir(parents=True, exist_ok=True)
        log_line(folder.path, details)
        folder.save_failure(failure.message, failure.kind, last_lines(folder.path))
    return failure


def _train(
    spec: RunSpec,
    job: Job,
    stop: StopSignal,
    slurm: JobEnvironment | None,
    show: Callable[[Standing], None],
    log: Callable[[str], None],
) -> None:
    folder, tasks = job.folder(spec), slurm if slurm is not None and slurm.num_tasks > 1 else None
    is_rank_zero = tasks is None or tasks.global_rank == 0
    if is_rank_zero and (holder := folder.lock_holder()):
        raise RunLocked(f"{spec.id} is being trained by {holder}")
    folder.create()
    execution = with_threads(job.execution, threads_of(job.execution))
    if tasks is not None:
        TorchDistributedEnvironment().export(set_cuda_visible_devices=False, overwrite=True)
        execution = init_distributed(tasks.global_rank, tasks.local_rank, tasks.num_tasks, "env://", execution)
        if not is_rank_zero:
            train(spec, job.runs, execution, should_stop=stop)
            return
    number = str(slurm.job_id if slurm else os.getpid())
    log_line(folder.path, f"started: job {number} on {host()}, Python {platform.python_version()}")
    progress = ProgressFile(folder.path, number, *cores_and_gpus(execution, spec.recipe.processes))

    def on_step(event: StepEvent) -> None:
        show(progress(event))
        if event.row:
            shown = {k: v for k, v in event.row.items() if k.startswith("test_") or k == "loss"}
            numbers = ", ".join(f"{name} {value:.4g}" for name, value in shown.items())
            log_line(folder.path, f"{event.stage} epoch {event.epoch}/{event.epochs}: {numbers}")

    def note(line: str) -> None:
        log_line(folder.path, line)
        log(line)

    try:
        if tasks is not None:
            result = train(spec, job.runs, execution, on_step, note, stop)
        else:
            if spec.recipe.processes > 1:
                os.environ["SSKD_PROCESS"] = str(os.getpid())  # the process that cancel signals
            begin = partial(prepare, this_code(), job.plugins)
            result = train_in_processes(spec, job.runs, execution, on_step, note, stop, begin)
    except Interrupted as reason:
        log_line(folder.path, f"{stop.received.name if stop.received else ''}: {reason}")
        raise
    finally:
        os.environ.pop("SSKD_PROCESS", None)
    log_line(folder.path, f"finished after {result['seconds']} s of training")


def prepare(code: Code, plugins: tuple[str, ...]) -> None:
    """Prepares a process that trains: refuses other code than the suite's, and loads the plugins."""
    refuse_other_code(code)
    load_plugins(plugins)
