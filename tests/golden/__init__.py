"""Golden values (../shared/reference) and the fixed inputs they belong to.

Inputs come from NumPy's legacy ``RandomState``, whose stream is the same in every NumPy version.
"""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

HERE = Path(__file__).parent


def tensor(k: int, *shape: int) -> Tensor:
    """The k-th input of the losses: standard normal, float32 (seed 1000 + k)."""
    return torch.from_numpy(np.random.RandomState(1000 + k).randn(*shape).astype("float32"))


def labels(k: int, batch: int, classes: int) -> Tensor:
    """Integer labels in [0, classes), int64 (seed 1000 + k)."""
    return torch.from_numpy(np.random.RandomState(1000 + k).randint(0, classes, size=batch).astype("int64"))


def images(batch: int = 2, size: int = 32, seed: int = 12345) -> Tensor:
    """Standard-normal images (batch, 3, size, size), float32."""
    return torch.from_numpy(np.random.RandomState(seed).randn(batch, 3, size, size).astype("float32"))


def state_dict(entries: list[list[Any]]) -> dict[str, Tensor]:
    """Fixed weights for the [name, shape] entries of an architecture file, in published order."""
    state, position = {}, 0
    for name, shape in entries:
        if name.endswith("num_batches_tracked"):
            state[name] = torch.tensor(0)
            continue
        draw = np.random.RandomState(position).randn(*shape)
        position += 1
        if name.endswith("running_var"):
            draw = np.exp(0.1 * draw)
        elif name.endswith("weight") and len(shape) == 1:
            draw = 1.0 + 0.1 * draw
        elif name.endswith("weight"):
            draw = draw * np.sqrt(2.0 / np.prod(shape[1:]))
        else:
            draw = 0.1 * draw
        state[name] = torch.from_numpy(draw.astype("float32"))
    return state


def architecture(name: str) -> dict[str, Any]:
    return json.loads((HERE / "architectures" / f"{name}.json").read_text())


ARCHITECTURES = sorted(path.stem for path in (HERE / "architectures").glob("*.json"))
IN_FP32: dict[str, dict[str, Any]] = json.loads((HERE / "losses.json").read_text())  # computed in float32
LOSSES = IN_FP32 | {
    name: entry
    for file in ("losses_modern.json", "losses_recent.json")
    for name, entry in json.loads((HERE / file).read_text()).items()
}
BATCH, CLASSES = 12, 100


def fill_parameters(module: nn.Module, first: int) -> None:
    """The fixed values of a module's parameters, in the module's order and of its type."""
    for i, (name, parameter) in enumerate(module.named_parameters()):
        parameter.data = parameter_value(first + i, name, tuple(parameter.shape)).to(parameter.dtype)


def parameter_value(k: int, name: str, shape: tuple[int, ...]) -> Tensor:
    draw = tensor(k, *shape).double()
    if len(shape) > 1:
        return draw * float(np.sqrt(2.0 / np.prod(shape[1:])))
    return 1 + 0.1 * draw if name.endswith("weight") else 0.1 * draw


def assert_golden(
    name: str,
    loss: Tensor,
    inputs: Sequence[Tensor],
    parameters: Sequence[Tensor] = (),
    outputs: Sequence[Tensor] = (),
    relative: float = 1e-5,
) -> None:
    """Loss, gradients for ``inputs`` and ``parameters``, their shapes, and ``outputs`` agree with the golden entry."""
    golden = LOSSES[name]
    if parameters:
        assert [_trimmed(p.shape) for p in parameters] == [_trimmed(shape) for _, shape in golden["parameters"]]
    torch.testing.assert_close(loss.item(), golden["loss"], rtol=relative, atol=0)
    wanted = [*inputs, *parameters]
    gradients = torch.autograd.grad(loss, wanted, allow_unused=True)
    found = [torch.zeros_like(w) if g is None else g for w, g in zip(wanted, gradients, strict=True)]
    expected = golden.get("grads", []) + golden.get("parameter_grads", [])
    for value, summary in zip(found, expected, strict=True):
        assert_summary(value, summary, relative)
    assert_outputs(name, outputs, relative)


def _trimmed(shape: Sequence[int]) -> list[int]:
    """A 1x1 convolution's shape as a linear layer's."""
    return list(shape[:2]) if tuple(shape[2:]) == (1, 1) else list(shape)


def assert_outputs(name: str, outputs: Sequence[Tensor], relative: float = 1e-5) -> None:
    for value, summary in zip(outputs, LOSSES[name].get("outputs", []), strict=True):
        assert_summary(value, summary, relative)


def assert_summary(value: Tensor, summary: dict[str, Any], relative: float) -> None:
    """All values, or norm, mean magnitude and first entries (rounded to 1e-9 in the file). What is nought but for
    rounding is nought to 1e-5."""
    assert _trimmed(value.shape) == _trimmed(summary["shape"])
    value = value.double().contiguous().flatten()
    if "values" in summary:
        wanted = torch.tensor(summary["values"], dtype=torch.float64)
        torch.testing.assert_close(value, wanted, rtol=relative, atol=relative * wanted.abs().mean().item() + 1e-11)
        return
    floor = 1e-5 if summary["norm"] < 1e-9 else 0
    for found, sought in ((value.norm().item(), summary["norm"]), (value.abs().mean().item(), summary["abs_mean"])):
        torch.testing.assert_close(found, sought, rtol=relative, atol=floor)
    head = value[: len(summary["head"])].tolist()
    margin = summary["abs_mean"] * relative + max(floor, 1e-9)
    torch.testing.assert_close(head, summary["head"], rtol=relative, atol=margin)
