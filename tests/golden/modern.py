"""Golden values of the methods of 2021 to 2024 (losses_modern.json), computed in float64 from float32 inputs."""

import json
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from tests.golden import HERE, labels, tensor

MODERN: dict[str, dict[str, Any]] = json.loads((HERE / "losses_modern.json").read_text())
BATCH, CLASSES = 12, 100


def logits(k: int, batch: int = BATCH, classes: int = CLASSES, gradient: bool = False) -> Tensor:
    """3 t(k), float32."""
    return (3 * tensor(k, batch, classes)).requires_grad_(gradient)


def target() -> Tensor:
    return labels(202, BATCH, CLASSES)


def fill_parameters(module: nn.Module, first: int) -> None:
    """The fixed values of a module's parameters, in the module's order."""
    for i, (name, parameter) in enumerate(module.named_parameters()):
        parameter.data = parameter_value(first + i, name, tuple(parameter.shape))


def parameter_value(k: int, name: str, shape: tuple[int, ...]) -> Tensor:
    draw = tensor(k, *shape)
    if len(shape) > 1:
        return draw * float(np.sqrt(2.0 / np.prod(shape[1:])))
    return 1 + 0.1 * draw if name.endswith("weight") else 0.1 * draw


def assert_shapes(name: str, module: nn.Module) -> None:
    """The module's parameters have the golden shapes, in the golden order."""
    assert [list(p.shape) for p in module.parameters()] == [shape for _, shape in MODERN[name]["parameters"]]


def assert_modern(
    name: str,
    loss: Tensor,
    inputs: Sequence[Tensor],
    parameters: Sequence[Tensor] = (),
    outputs: Sequence[Tensor] = (),
    relative: float = 1e-5,
) -> None:
    """Loss, gradients for ``inputs`` and ``parameters``, and ``outputs`` agree with losses_modern.json[name]."""
    golden = MODERN[name]
    torch.testing.assert_close(loss.item(), golden["loss"], rtol=relative, atol=0)
    wanted = [*inputs, *parameters]
    gradients = torch.autograd.grad(loss, wanted, allow_unused=True)
    found = [torch.zeros_like(w) if g is None else g for w, g in zip(wanted, gradients, strict=True)]
    expected = golden["grads"] + golden.get("parameter_grads", [])
    for value, summary in zip(found, expected, strict=True):
        assert_summary(value, summary, relative)
    assert_outputs(name, outputs, relative)


def assert_outputs(name: str, outputs: Sequence[Tensor], relative: float = 1e-5) -> None:
    for value, summary in zip(outputs, MODERN[name].get("outputs", []), strict=True):
        assert_summary(value, summary, relative)


def assert_summary(value: Tensor, summary: dict[str, Any], relative: float) -> None:
    """Shape, norm, mean magnitude and first entries (rounded to 1e-9 in the file)."""
    assert list(value.shape) == summary["shape"]
    value = value.double()
    for found, wanted in (
        (value.norm().item(), summary["norm"]),
        (value.abs().mean().item(), summary["abs_mean"]),
    ):
        torch.testing.assert_close(found, wanted, rtol=relative, atol=0)
    head = value.contiguous().view(-1)[: len(summary["head"])].tolist()
    torch.testing.assert_close(head, summary["head"], rtol=relative, atol=summary["abs_mean"] * relative + 1e-9)
