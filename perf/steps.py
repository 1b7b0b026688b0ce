"""Single steps of a run, and their timing in interleaved rounds."""

import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, TypeVar

import torch

from sskd.config.execution import Execution
from sskd.data.batch import Batch
from sskd.runs.spec import RunSpec
from sskd.training.checkpoint import RunState
from sskd.training.setup import prepare
from sskd.training.step import steps
from sskd.training.tasks import build_task

Measured = TypeVar("Measured")


def stages(spec: RunSpec, runs: Path, execution: Execution) -> Iterator[RunState]:
    """Yields the run at the beginning of each of its stages. Steps of a stage change the networks of the next."""
    setup = prepare(spec, runs, execution)
    task = build_task(setup)
    for number in range(len(task.stages)):
        run = RunState(setup, task, machine={})
        run.stage_number = number
        run.enter_stage()
        task.modules.eval()
        for module in run.stage.trained:
            module.train()
        run.stage.begin_epoch(0)
        run.set_learning_rate()
        yield run


def begin(spec: RunSpec, runs: Path, execution: Execution) -> RunState:
    """Returns the run at the beginning of its main stage, which is the last one."""
    *_, run = stages(spec, runs, execution)
    return run


def full_batches(run: RunState) -> Iterator[Batch]:
    """Yields full batches forever."""
    epoch = 0
    while True:
        yield from (batch for batch in run.loader.epoch(epoch) if len(batch.labels) == run.loader.batch_size)
        epoch += 1


def stepper(run: RunState) -> Callable[[], None]:
    """Returns a function that executes one step including its batch, eagerly or as a graph, as the run's execution
    says."""

    def endless() -> Iterator[None]:
        while True:
            for _ in steps(run):
                run.step += 1
                yield
            run.epoch, run.step = run.epoch + 1, 0

    done = endless()
    return lambda: next(done)


def seconds_of(action: Callable[[], Any], repeats: int, device: torch.device | None = None) -> float:
    """Returns seconds per call over ``repeats`` consecutive calls, on a GPU by its events."""
    if device is None or device.type != "cuda":
        started = time.perf_counter()
        for _ in range(repeats):
            action()
        return (time.perf_counter() - started) / repeats
    first, last = (torch.cuda.Event(enable_timing=True) for _ in range(2))
    first.record()
    for _ in range(repeats):
        action()
    last.record()
    torch.cuda.synchronize(device)
    return first.elapsed_time(last) / 1000 / repeats


def interleaved(measurements: Mapping[str, Callable[[], Measured]], rounds: int) -> dict[str, list[Measured]]:
    """Makes every measurement once per round, so that a slow period of the machine concerns them all. Returns the
    results by name, in order of the rounds."""
    found: dict[str, list[Measured]] = {name: [] for name in measurements}
    for _ in range(rounds):
        for name, measure in measurements.items():
            found[name].append(measure())
    return found
