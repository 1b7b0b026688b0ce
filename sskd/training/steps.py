"""The steps of an epoch, eagerly or as a CUDA graph: the loop counts them, and does not know which."""

import warnings
from collections.abc import Callable, Iterator

import torch
from torch import Tensor

from sskd.data.batch import Batch
from sskd.data.memory_loader import TrainLoader
from sskd.errors import UserError
from sskd.training.graphs import GraphedStep
from sskd.training.run_state import RunState
from sskd.training.setup import Setup

TrainStep = Callable[[RunState, Batch], None]


def steps(run: RunState, train_step: TrainStep) -> Iterator[int]:
    """Does the steps of the epoch that are still to be done, one at every ``next``. Yields each one's images, of all
    processes. UserError where ``execution.graphs`` is "on" and a step cannot be one."""
    if isinstance(run.loader, TrainLoader) and can_graph(run.setup):
        yield from _graphed(run, run.loader, train_step)
        return
    for batch in run.loader.epoch(run.epoch, start=run.step):
        run.set_learning_rate()
        train_step(run, batch)
        yield batch.whole or len(batch.labels)


def can_graph(setup: Setup) -> bool:
    """Whether steps on images in memory are to be tried as graphs: on a GPU, in one process, where nobody said no.
    torch.compile's reduce-overhead has graphs of its own."""
    execution = setup.execution
    wanted = execution.graphs != "off" and execution.compile != "reduce-overhead"
    return wanted and setup.device.type == "cuda" and not setup.gathers


def _graphed(run: RunState, loader: TrainLoader, train_step: TrainStep) -> Iterator[int]:
    graph = run.graph = run.graph or make_graph(run, loader, train_step)
    for step, positions in loader.order(run.epoch, start=run.step):
        run.set_learning_rate()
        fixed = tuple(group["lr"] for group in run.optimizer.param_groups if not torch.is_tensor(group["lr"]))
        known = graph.refused
        graph(positions, [loader.step_seed(run.epoch, step)], fixed)
        if graph.refused != known:
            _tell(run, graph.refused)
        yield len(positions)


def make_graph(run: RunState, loader: TrainLoader, train_step: TrainStep) -> GraphedStep:
    """The step of the run's stage: batches are made in the graph too."""
    draws = torch.Generator(device=run.setup.device)

    def body(positions: Tensor) -> None:
        train_step(run, loader.make(positions, draws))

    return GraphedStep(body, loader.batch_size, [draws], run.setup.device, recover=run.renew_scaler)


def _tell(run: RunState, reason: str) -> None:
    said = f"{run.setup.spec.id}: a step of stage '{run.stage.name}' cannot be one CUDA graph: {reason}"
    if run.setup.execution.graphs == "on":
        raise UserError(f"{said}; with execution.graphs=auto it runs eagerly")
    warnings.warn(f"{said}; it runs eagerly", stacklevel=2)
