"""One training step, and the steps of an epoch, executed eagerly or as a CUDA graph."""

import warnings
import weakref
from collections.abc import Iterator

import torch
from torch import Tensor

from sskd.data.batch import Batch
from sskd.data.memory_loader import TrainLoader
from sskd.errors import UserError
from sskd.training.checkpoint import RunState
from sskd.training.graphs import GraphedStep


def train_step(run: RunState, batch: Batch) -> None:
    """Executes the device part of a step: loss, gradients, update, and sums of the losses.

    It only uses device tensors and does not synchronise, so that a CUDA graph can capture it. The learning rate and the
    counters are updated outside.
    """
    run.optimizer.zero_grad(set_to_none=True)
    total, terms = run.loss(batch)
    run.scaler.scale(total).backward()
    run.scaler.step(run.optimizer)
    run.scaler.update()
    run.stage.after_step()
    if run.task.average is not None:
        run.task.average.update()
    run.meter.add(total, terms, batch.global_batch_size or len(batch.labels))


def steps(run: RunState) -> Iterator[int]:
    """Executes the remaining steps of the epoch, one per ``next``. Yields the number of images of each step, over
    all ranks. Raises UserError if ``execution.graphs`` is "on" and a step cannot be captured."""
    why = why_eager(run)
    if not why:
        yield from _graphed(run)
        return
    if run.setup.execution.graphs == "on":
        raise UserError(f"execution.graphs is on, but {run.setup.spec.id} cannot use CUDA graphs: {why}")
    for batch in run.loader.epoch(run.epoch, start=run.step):
        run.set_learning_rate()
        train_step(run, batch)
        yield batch.global_batch_size or len(batch.labels)


def why_eager(run: RunState) -> str:
    """Returns why the run does not try CUDA graphs; "" if it does."""
    setup = run.setup
    reasons = {
        "execution.graphs is off": setup.execution.graphs == "off",
        run.stage.eager: bool(run.stage.eager),
        f"its device is {setup.device}": setup.device.type != "cuda",
        "it has several processes": setup.gathers,
        "its images are read from files": not isinstance(run.loader, TrainLoader),
        "execution.compile=reduce-overhead uses CUDA graphs itself": setup.execution.compile == "reduce-overhead",
    }
    return next((reason for reason, holds in reasons.items() if holds), "")


def _graphed(run: RunState) -> Iterator[int]:
    loader = run.loader
    assert isinstance(loader, TrainLoader)
    graph = run.graph = run.graph or make_graph(run, loader)
    for step, positions in loader.order(run.epoch, start=run.step):
        run.set_learning_rate()
        host_constants = tuple(group["lr"] for group in run.optimizer.param_groups if not torch.is_tensor(group["lr"]))
        known = graph.fallback_reason
        graph(positions, [loader.step_seed(run.epoch, step)], host_constants)
        if graph.fallback_reason != known:
            _report_fallback(run, graph.fallback_reason)
        yield len(positions)


def make_graph(run: RunState, loader: TrainLoader) -> GraphedStep:
    """Returns the graphed step of the run's stage, including the making of its batch. The run owns the graph; the
    graph has only a weak reference to the run. The graph's GPU memory is therefore freed as soon as the run is
    deleted."""
    draws = torch.Generator(device=run.setup.device)
    owner = weakref.proxy(run)

    def body(positions: Tensor) -> None:
        train_step(owner, loader.make(positions, draws))

    return GraphedStep(body, loader.batch_size, [draws], run.setup.device, recover=lambda: owner.renew_scaler())


def _report_fallback(run: RunState, reason: str) -> None:
    said = f"{run.setup.spec.id}: the step of stage '{run.stage.name}' cannot be captured as a CUDA graph: {reason}"
    if run.setup.execution.graphs == "on":
        raise UserError(f"{said}; set execution.graphs=auto to run it eagerly")
    warnings.warn(f"{said}; it runs eagerly", stacklevel=2)
