"""A run as the trainer has it, held between two steps, so that single steps can be looked at."""

from collections.abc import Callable, Iterator
from pathlib import Path

from sskd.config.execution import Execution
from sskd.data.batch import Batch
from sskd.runs.run_folder import RunFolder
from sskd.runs.spec import RunSpec
from sskd.training.jobs import build_task
from sskd.training.loop import _Run
from sskd.training.setup import prepare


def begin(spec: RunSpec, runs: Path, execution: Execution, stage: int = -1) -> _Run:
    """The run at the beginning of a stage, by number."""
    setup = prepare(spec, runs, execution)
    run = _Run(setup, build_task(setup), RunFolder(runs, spec))
    run.stage_number = range(len(run.task.stages))[stage]
    run.enter_stage()
    run.task.modules.eval()
    for module in run.stage.trained:
        module.train()
    run.stage.begin_epoch(0)
    for group in run.optimizer.param_groups:
        group["lr"] = run.stage.learning_rate_at(0)
    return run


def step(run: _Run, batch: Batch) -> None:
    """A training step on that batch."""
    run.optimizer.zero_grad(set_to_none=True)
    total, terms = run.stage.loss(batch)
    run.scaler.scale(total).backward()
    run.scaler.step(run.optimizer)
    run.scaler.update()
    run.stage.after_step()
    run.meter.add(total, terms, len(batch.labels))


def full_batches(run: _Run) -> Iterator[Batch]:
    """Full batches without end."""
    epoch = 0
    while True:
        yield from (batch for batch in run.loader.epoch(epoch) if len(batch.labels) == run.loader.batch_size)
        epoch += 1


def stepper(run: _Run, graph: bool) -> Callable[[], None]:
    """A step at a call, its batch included: eagerly, or as one graph."""
    if graph:
        raise NotImplementedError
    batches = full_batches(run)
    return lambda: step(run, next(batches))
