"""Golden values (../shared/reference) and the fixed inputs they belong to.

Inputs come from NumPy's legacy ``RandomState``, whose stream is the same in every NumPy version.
"""

import json
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

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
LOSSES: dict[str, dict[str, Any]] = json.loads((HERE / "losses.json").read_text())


def assert_golden(name: str, loss: Tensor, inputs: list[Tensor], relative: float = 1e-5) -> None:
    """Loss and gradients (with respect to ``inputs``, in order) agree with losses.json[name].

    Gradients are compared by shape, norm, mean magnitude and first entries (rounded to 1e-9 in the file).
    """
    golden = LOSSES[name]
    torch.testing.assert_close(loss.item(), golden["loss"], rtol=relative, atol=0)
    gradients = torch.autograd.grad(loss, inputs)
    assert len(gradients) == len(golden["grads"])
    for gradient, expected in zip(gradients, golden["grads"], strict=True):
        assert list(gradient.shape) == expected["shape"]
        scale = expected["abs_mean"]
        for found, wanted in (
            (gradient.norm().item(), expected["norm"]),
            (gradient.abs().mean().item(), expected["abs_mean"]),
        ):
            torch.testing.assert_close(found, wanted, rtol=relative, atol=0)
        head = gradient.contiguous().view(-1)[: len(expected["head"])].tolist()
        torch.testing.assert_close(head, expected["head"], rtol=relative * 10, atol=scale * relative * 10 + 1e-9)
