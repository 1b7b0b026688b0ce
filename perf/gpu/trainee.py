"""A run between two steps, for the inspection of single steps."""

from collections.abc import Callable, Iterator
from pathlib import Path

from sskd.config.execution import Execution
from sskd.data.batch import Batch
from sskd.runs.spec import RunSpec
from sskd.training.checkpoint import RunState
from sskd.training.setup import prepare
from sskd.training.step import steps
from sskd.training.tasks import build_task


def begin(spec: RunSpec, runs: Path, execution: Execution, stage: int = -1) -> RunState:
    """Returns the run at the beginning of a stage, by number."""
    setup = prepare(spec, runs, execution)
    run = RunState(setup, build_task(setup), machine={})
    run.stage_number = range(len(run.task.stages))[stage]
    run.enter_stage()
    run.task.modules.eval()
    for module in run.stage.trained:
        module.train()
    run.stage.begin_epoch(0)
    run.set_learning_rate()
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
