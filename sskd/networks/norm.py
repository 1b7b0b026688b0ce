"""Batch norm with what follows it, a sum and a ReLU, as one operation where that is faster: in training on the CPU."""

import ctypes
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.nn import functional as F

from sskd import native

STRIP = 64  # norm.c works on rows of so many numbers, or a multiple
HALF = {torch.float32: False, torch.bfloat16: True}


def normed(norm: nn.BatchNorm2d, x: Tensor, other: Tensor | None = None, relu: bool = True) -> Tensor:
    """relu(norm(x) + other), or without ReLU; (B, C, H, W). What norm does to its running statistics included."""
    if norm.training and _suits(norm, x, other):
        assert norm.num_batches_tracked is not None
        norm.num_batches_tracked.add_(1)
        result: Tensor = _Norm.apply(x, other, norm, relu, norm.weight, norm.bias)
        return result
    total = norm(x) if other is None else norm(x) + other
    return F.relu(total, inplace=True) if relu else total


def _suits(norm: nn.BatchNorm2d, x: Tensor, other: Tensor | None = None) -> bool:
    """Whether norm.c can do it: plain settings, and whole rows in channels-last memory."""
    if torch.compiler.is_compiling() or x.device.type != "cpu" or x.dtype not in HALF or native.library() is None:
        return False
    plain = norm.affine and norm.track_running_stats and norm.momentum is not None
    maps = [x] if other is None else [x, other]
    return (
        plain
        and norm.weight.dtype == torch.float32
        and x.numel() > x.shape[1]  # one value for each channel: an error, and torch says it
        and (x.shape[1] % STRIP == 0 or (STRIP % x.shape[1] == 0 and x.numel() % STRIP == 0))
        and all(m.shape == x.shape and m.dtype == x.dtype and _channels_last(m) for m in maps)
    )


def _channels_last(x: Tensor) -> bool:
    return x.is_contiguous(memory_format=torch.channels_last)


class Scaled(nn.Module):
    """relu(norm(x)) of a norm in eval mode, without gradient, from its statistics as they are now."""

    def __init__(self, norm: nn.BatchNorm2d) -> None:
        super().__init__()
        assert norm.running_mean is not None
        assert norm.running_var is not None
        scale = norm.weight * torch.rsqrt(norm.running_var + norm.eps)
        repeats = max(1, STRIP // len(scale))
        self.norm, self.scale = norm, scale.repeat(repeats)
        self.shift = (norm.bias - norm.running_mean * scale).repeat(repeats)

    def forward(self, x: Tensor) -> Tensor:
        if not _suits(self.norm, x):
            return relu_(self.norm(x))
        y = torch.empty_like(x)
        _call("affine", x, [None, y], self.scale, self.shift, 1)
        return y


def relu_(x: Tensor) -> Tensor:
    """ReLU in place, without gradient. Of bfloat16 what is below zero is below zero as an integer too, and integers
    take a sixth of the time. (-0.0 becomes 0.0, and so does a NaN with a minus sign.)"""
    if x.dtype != torch.bfloat16:
        return torch.relu_(x)
    x.view(torch.int16).clamp_(min=0)
    return x


class _Norm(torch.autograd.Function):
    """norm.c's forward and backward pass."""

    @staticmethod
    def forward(
        ctx: Any, x: Tensor, other: Tensor | None, norm: nn.BatchNorm2d, relu: bool, *learned: Tensor
    ) -> Tensor:
        y, kept = torch.empty_like(x), torch.empty(2, x.shape[1])  # mean, 1 / standard deviation
        running = norm.running_mean, norm.running_var
        momentum = ctypes.c_double(norm.momentum or 0.0)
        _call("forward", x, [other, y], *learned, *running, momentum, ctypes.c_double(norm.eps), *kept, int(relu))
        ctx.save_for_backward(x, y if relu else None, learned[0], kept)
        ctx.adds = other is not None
        return y

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        x, y, weight, kept = ctx.saved_tensors
        gradient = gradient.to(x.dtype).contiguous(memory_format=torch.channels_last)
        dx, learned = torch.empty_like(x), torch.empty(2, len(weight))
        # without a ReLU the gradient of what was added is this one itself
        passed = torch.empty_like(x) if ctx.adds and y is not None else None
        _call("backward", x, [y, gradient, dx, passed], weight, *kept, *learned)
        dother = (gradient if passed is None else passed) if ctx.adds else None
        return dx, dother, None, None, *learned


def _call(name: str, x: Tensor, maps: list[Tensor | None], *values: Tensor | ctypes.c_double | int | None) -> None:
    """A function of norm.c: of x, other maps, their size, ``values``, precision and threads. Its rows are of STRIP
    numbers, several pixels, where there are fewer channels."""
    library, channels = native.library(), x.shape[1]
    assert library is not None
    width = max(channels, STRIP)
    size = (ctypes.c_long(number) for number in (x.numel() // width, width, channels))
    arguments = map(_argument, (x, *maps, *size, *values, int(HALF[x.dtype]), torch.get_num_threads()))
    if not getattr(library, name)(*arguments):
        raise MemoryError("no memory for a batch norm")


def _argument(value: Any) -> Any:
    return ctypes.c_void_p(value.data_ptr()) if isinstance(value, Tensor) else value
