"""Compares steps on the CPU and on the device: the same weights and batches (made on the CPU), in float32.

The reference is the CPU's plain form (images as N x C x H x W, teacher's batch norms not folded); the device uses the
training's optimised form. Two float32 implementations differ by about 1e-7 in a sum, and training doubles such a
difference every few steps: the first step shows whether the device computes the same, the twentieth whether it stays
close. SSKD ranks predictions; a tie that is broken differently changes its loss by a row of the batch.
"""

from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode

from perf.cases import Case, Cases, all_cases
from perf.gpu.items import Items, Measurement
from perf.steps import begin, full_batches
from sskd.config.execution import Execution
from sskd.data.batch import Batch
from sskd.training.checkpoint import RunState
from sskd.training.step import train_step

FIRST_LOSS, WEIGHTS = 1e-3, 0.1  # relative tolerances of the first loss, and of the weights relative to their change


def items(measurement: Measurement) -> Items:
    cases = measurement.cases(measurement.out / "untrained")
    return {case.name: partial(compare, case, cases, measurement) for case in all_cases()}


def compare(case: Case, cases: Cases, measurement: Measurement) -> dict[str, Any]:
    """Returns for the main stage the relative differences of each step's loss, and of the weights after the last step,
    relative to their norm and to the norm of their change."""
    spec = cases.spec(case, "fp32", few=True)
    device = measurement.device
    plain = Execution(dataset_root=str(measurement.root), device="cpu", channels_last=False, fold_teacher=False)
    theirs = begin(spec, cases.runs, plain)
    ours = begin(spec, cases.runs, measurement.execution("off"))
    start = _weights(theirs.task.modules)
    ours.task.modules.load_state_dict(theirs.task.modules.state_dict())
    batches, losses = full_batches(theirs), []
    for _ in range(measurement.sizes.parity_steps):
        batch = next(batches)
        copy = _on(batch, device)
        loss = _loss_of(theirs, batch)
        with CpuDraws():
            losses.append((loss, _loss_of(ours, copy)))
    end, found = _weights(theirs.task.modules), _weights(ours.task.modules)
    apart, way = (found - end).norm().item(), (end - start).norm().item()
    relative = [abs(mine - other) / max(abs(other), 1e-12) for other, mine in losses]
    good = relative[0] <= FIRST_LOSS and apart <= WEIGHTS * way
    return {
        "losses": relative,
        "weights": apart / end.norm().item(),
        "weights_to_their_change": apart / max(way, 1e-12),
        "steps": len(losses),
        "good": good,
        "text": f"loss {relative[0]:.1e} to {relative[-1]:.1e}, weights {apart / max(way, 1e-12):.1e} of their change"
        f"{'' if good else ': DIFFERENT'}",
    }


def _loss_of(run: RunState, batch: Batch) -> float:
    """Executes a step and returns its loss."""
    run.meter.reset()
    train_step(run, batch)
    return run.meter.state_dict()["sums"]["loss"].item() / len(batch.labels)


def _on(batch: Batch, device: torch.device) -> Batch:
    """Returns the batch on the device, with its generator on the CPU in the same state."""
    draws = torch.Generator()
    draws.set_state(batch.generator.get_state())
    labels = None if batch.view_labels is None else batch.view_labels.to(device)
    images = batch.images.to(device, memory_format=torch.channels_last)
    return batch._replace(
        images=images,
        labels=batch.labels.to(device),
        indices=batch.indices.to(device),
        view_labels=labels,
        generator=draws,
    )


def _weights(modules: torch.nn.Module) -> Tensor:
    """Returns all floating-point parameters and buffers as one vector, float64 on the CPU."""
    kept = [value for value in modules.state_dict().values() if value.is_floating_point()]
    return torch.cat([value.detach().double().flatten().cpu() for value in kept])


class CpuDraws(TorchFunctionMode):
    """Draws random numbers of CPU generators on the CPU, then moves them to the requested device."""

    def __torch_function__(
        self, function: Callable[..., Any], types: Any, arguments: tuple[Any, ...] = (), keywords: Any = None
    ) -> Any:
        keywords = keywords or {}
        draws = keywords.get("generator")
        if draws is None or draws.device.type != "cpu":
            return function(*arguments, **keywords)
        into = arguments[0] if arguments and isinstance(arguments[0], Tensor) else None
        if into is not None and into.device.type != "cpu":  # keys.random_(generator=...)
            drawn = function(torch.empty_like(into, device="cpu"), *arguments[1:], **keywords)
            return into.copy_(drawn)
        wanted = keywords.pop("device", None)
        drawn = function(*arguments, **keywords)
        return drawn if wanted is None else drawn.to(wanted)
