"""One training step, and the steps of an epoch, which run eagerly or as a CUDA graph."""

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
    """What one step does on the device: loss, gradients, update, sums of the losses.

    It touches device tensors alone and waits for none of them, so that a CUDA graph can hold it: the learning rate is
    set and steps are counted outside of it.
    """
    run.optimizer.zero_grad(set_to_none=True)
    total, terms = run.loss(batch)
    run.scaler.scale(total).backward()
    run.scaler.step(run.optimizer)
    run.scaler.update()
    run.stage.after_step()
    run.meter.add(total, terms, batch.global_batch_size or len(batch.labels))


def steps(run: RunState) -> Iterator[int]:
    """Does the steps of the epoch that are still to be done, one at every ``next``. Yields each one's images, of all
    processes. UserError where ``execution.graphs`` is "on" and a step cannot be one."""
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
    """Why the run's steps are not even tried as graphs; "" where they are."""
    setup = run.setup
    reasons = {
        "execution.graphs is off": setup.execution.graphs == "off",
        run.stage.eager: bool(run.stage.eager),
        f"its device is {setup.device}": setup.device.type != "cuda",
        "it has several processes": setup.gathers,
        "its images are read from files": not isinstance(run.loader, TrainLoader),
        "execution.compile=reduce-overhead has graphs of its own": setup.execution.compile == "reduce-overhead",
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
    """The step of the run's stage: batches are made in the graph too. The graph does not hold the run, which holds it:
    its memory on the GPU is free as soon as the run is no more."""
    draws = torch.Generator(device=run.setup.device)
    known = weakref.ref(run)

    def owner() -> RunState:
        found = known()
        assert found is not None
        return found

    def body(positions: Tensor) -> None:
        train_step(owner(), loader.make(positions, draws))

    def recover() -> None:
        owner().renew_scaler()

    return GraphedStep(body, loader.batch_size, [draws], run.setup.device, recover=recover)


def _report_fallback(run: RunState, reason: str) -> None:
    said = f"{run.setup.spec.id}: a step of stage '{run.stage.name}' cannot be one CUDA graph: {reason}"
    if run.setup.execution.graphs == "on":
        raise UserError(f"{said}; with execution.graphs=auto it runs eagerly")
    warnings.warn(f"{said}; it runs eagerly", stacklevel=2)
