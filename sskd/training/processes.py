"""Runs with several processes: starts them and forwards their reports, or joins processes that torchrun started."""

import gc
import multiprocessing as mp
import os
import queue
import signal
import tempfile
import threading
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import torch
import yaml

from sskd.config.execution import Execution
from sskd.console.signals import ENDING
from sskd.errors import UserError
from sskd.runs.spec import RunSpec, parse_spec, spec_yaml
from sskd.runtime.device import device_of, threads_of, with_threads
from sskd.runtime.distributed import is_peer_failure, join
from sskd.training.run import Interrupted, OnStep, train

LOOK_SECONDS = 0.2  # between checks for dead processes and stop requests
LEAVE_SECONDS = 60.0  # for processes to end their loader workers; a busy machine is slow

SENT = (UserError, Interrupted, torch.OutOfMemoryError)  # exceptions that a process sends as they are


def nothing() -> None:
    """The default of ``prepare``."""


def train_in_processes(
    spec: RunSpec,
    runs: Path,
    execution: Execution,
    on_step: OnStep = lambda event: None,
    log: Callable[[str], None] = print,
    should_stop: Callable[[], bool] = lambda: False,
    prepare: Callable[[], None] = nothing,
) -> dict[str, Any]:
    """Calls ``sskd.training.run.train`` in as many processes as the recipe says; in this process if that is one.

    ``prepare`` is called first in each process (it loads plugins; it must be picklable). Rank 0 writes, evaluates and
    reports. If one process fails, all are stopped. Raises UserError if there are fewer GPUs than processes.
    """
    count = spec.recipe.processes
    if count == 1:
        return train(spec, runs, execution, on_step, log, should_stop)
    if device_of(execution).type == "cuda" and torch.cuda.device_count() < count:
        raise UserError(f"recipe.processes is {count}, but there are {torch.cuda.device_count()} GPUs here")
    # the processes share the threads of a single-process run
    execution = with_threads(execution, max(1, threads_of(execution) // count))
    context = mp.get_context("spawn")
    messages: Any = context.Queue()
    stop = context.Event()
    with tempfile.TemporaryDirectory() as folder:
        init_method = f"file://{folder}/meeting"
        common = (count, init_method, spec_yaml(spec), runs, execution, prepare, messages, stop)
        workers = [context.Process(target=_work, args=(rank, *common)) for rank in range(count)]
        for worker in workers:
            worker.start()
        try:
            while True:  # forwards messages until rank 0 has a result, or until any process fails
                if should_stop():
                    stop.set()
                dead = [(rank, worker.exitcode) for rank, worker in enumerate(workers) if worker.exitcode]
                try:
                    kind, value = messages.get(timeout=LOOK_SECONDS)
                except queue.Empty:
                    if dead:
                        where = f"process {dead[0][0]} of {count} of {spec.id}"
                        raise RuntimeError(f"{where} ended with status {dead[0][1]}") from None
                    continue
                if kind == "step":
                    on_step(value)
                elif kind == "log":
                    log(value)
                elif kind == "error":
                    raise value
                else:
                    break
            for worker in workers:
                worker.join(LEAVE_SECONDS)
            return dict(value)
        finally:
            for worker in workers:
                worker.kill()
            for worker in workers:
                worker.join()


class Launch(NamedTuple):
    """The environment variables that torchrun sets."""

    rank: int
    local_rank: int  # rank on this machine
    world_size: int
    local_world_size: int

    @classmethod
    def of_environment(cls) -> "Launch | None":
        """Returns None if torchrun did not start this process, or started only one. Raises UserError if a variable
        is not a number."""
        values = [os.environ.get(name, "") for name in ("RANK", "LOCAL_RANK", "WORLD_SIZE")]
        if not all(values) or "MASTER_ADDR" not in os.environ:
            return None
        values.append(os.environ.get("LOCAL_WORLD_SIZE", values[-1]))  # other launchers may not set it
        if not all(value.isdecimal() for value in values):
            names = "RANK, LOCAL_RANK, WORLD_SIZE, LOCAL_WORLD_SIZE"
            raise UserError(f"{names} must be numbers, found {', '.join(values)}")
        launch = cls(*map(int, values))
        return launch if launch.world_size > 1 else None


def train_launched(
    launch: Launch,
    spec: RunSpec,
    runs: Path,
    execution: Execution,
    on_step: OnStep = lambda event: None,
    log: Callable[[str], None] = print,
    should_stop: Callable[[], bool] = lambda: False,
) -> dict[str, Any]:
    """Calls ``sskd.training.run.train`` in a process that torchrun started. Only rank 0 returns the result. Raises
    UserError if the number of processes is not ``recipe.processes``."""
    if spec.recipe.processes != launch.world_size:
        raise UserError(
            f"recipe.processes is {spec.recipe.processes}, but torchrun started {launch.world_size} processes"
        )
    execution = with_threads(execution, max(1, threads_of(execution) // launch.local_world_size))
    execution = init_distributed(launch.rank, launch.local_rank, launch.world_size, "env://", execution)
    try:
        return train(spec, runs, execution, on_step, log, should_stop)
    except Exception as error:
        if launch.rank > 0 and is_peer_failure(error):
            raise UserError(f"process {launch.rank} of {spec.id}: another process of the run has ended") from None
        raise


def init_distributed(rank: int, local_rank: int, count: int, init_method: str, execution: Execution) -> Execution:
    """Joins the process group as ``rank`` of ``count`` (see sskd.runtime.distributed.join). Returns the execution
    with the GPU of this process."""
    on_gpu = device_of(execution).type == "cuda"
    if on_gpu:
        number = local_rank % torch.cuda.device_count()  # a cluster may show each process only its own GPU
        torch.cuda.set_device(number)
        execution = execution.model_copy(update={"device": f"cuda:{number}"})
    join(rank, count, init_method, on_gpu)
    return execution


def _end_with_parent() -> None:
    """Ends this process if its parent has died, so that it does not continue to write into the run's folder."""
    parent = mp.parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)


def _work(
    rank: int,
    count: int,
    init_method: str,
    text: str,
    runs: Path,
    execution: Execution,
    prepare: Callable[[], None],
    messages: Any,
    stop: Any,
) -> None:
    for number in ENDING:  # a signal may reach all processes: the parent decides
        signal.signal(number, signal.SIG_IGN)
    threading.Thread(target=_end_with_parent, daemon=True).start()
    try:
        prepare()
        spec = parse_spec(yaml.safe_load(text), "a run of several processes")
        execution = init_distributed(rank, rank, count, init_method, execution)

        def send(kind: str) -> Callable[[Any], None]:
            return lambda value: messages.put((kind, value))

        result = train(spec, runs, execution, send("step"), send("log"), stop.is_set)
        if rank == 0:
            messages.put(("result", result))
    except Exception as error:
        if rank == 0 or not (isinstance(error, Interrupted) or is_peer_failure(error)):
            first = f"process {rank} of {count}: {type(error).__name__}: {' '.join(str(error).split())}"
            other = RuntimeError(f"{first}\n{traceback.format_exc()}")
            messages.put(("error", error if isinstance(error, SENT) else other))
    gc.collect()  # loaders end their workers and free their queues
    messages.close()
    messages.join_thread()
    os._exit(0)  # skips the shutdown of the process group, which would wait for the others
