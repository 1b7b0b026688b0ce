"""How fast a training step could be if it were nothing but its convolutions: the bound that ours is held against.

    python -m perf.convolution_bound --pairs resnet56/resnet20 --precision auto

Every convolution of a student stage's step (SSKD, batch 64, four views) is timed by itself at its own shape: the
teacher's forward pass, the student's forward and both backward passes. Their sum is the time that no rearrangement of
the rest can go below, at this machine's rate for these shapes.
"""

import argparse
import statistics
import time
from collections import Counter
from typing import NamedTuple

import torch
from torch import nn

from sskd.config.execution import Execution
from sskd.device import DTYPES, device_of, resolve_precision
from sskd.networks import build_network

BATCH, VIEWS = 64, 4


class Shape(NamedTuple):
    """One convolution: its input (channels, height, width), and what it is."""

    inputs: tuple[int, ...]
    out_channels: int
    kernel: tuple[int, ...]
    stride: tuple[int, ...]
    padding: tuple[int, ...]
    groups: int

    def layer(self) -> nn.Conv2d:
        return nn.Conv2d(
            self.inputs[0], self.out_channels, self.kernel, self.stride, self.padding, groups=self.groups, bias=False
        )  # type: ignore[arg-type]

    @property
    def multiply_adds(self) -> int:
        """Of one image, forward."""
        height, width = (
            (size + 2 * p - k) // s + 1
            for size, p, k, s in zip(self.inputs[1:], self.padding, self.kernel, self.stride, strict=True)
        )
        return height * width * self.out_channels * self.inputs[0] // self.groups * self.kernel[0] * self.kernel[1]


class Bound(NamedTuple):
    seconds: float  # of all convolutions of a step
    flop: float  # of these, two for each multiply-add

    @property
    def images_per_second(self) -> float:
        return BATCH / self.seconds

    @property
    def gflop_per_second(self) -> float:
        return self.flop / self.seconds / 1e9


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--pairs", default="resnet56/resnet20,wrn_40_2/wrn_16_2,vgg13/vgg8")
    parser.add_argument("--precision", default="auto", choices=("auto", "fp32", "bf16"))
    options = parser.parse_args()
    precision = resolve_precision(options.precision, device_of(Execution(device="cpu")))
    for pair in options.pairs.split(","):
        teacher, student = pair.split("/")
        for stage, bound in (
            ("student", bound_of(teacher, student, precision)),
            ("head", bound_of(teacher, "", precision)),
        ):
            print(
                f"{pair}, {stage} stage, {precision}: convolutions alone {1000 * bound.seconds:.0f} ms a step, "
                f"{bound.images_per_second:.0f} images/s, {bound.gflop_per_second:.0f} GFLOP/s"
            )


def bound_of(teacher: str, student: str, precision: str) -> Bound:
    """The convolutions of one step: ``teacher`` forward, and ``student`` (if there is one) forward and backward."""
    parts = [(shape, count, False, True) for shape, count in convolutions(teacher).items()]
    if student:
        first = next(iter(convolutions(student)))  # no gradient with respect to the images
        parts += [(shape, count, True, shape != first) for shape, count in convolutions(student).items()]
    seconds = flop = 0.0
    for shape, count, backward, to_input in parts:
        seconds += count * time_convolution(shape, precision, backward, to_input)
        passes = 1 + backward * (1 + to_input)
        flop += count * 2 * shape.multiply_adds * passes * BATCH * VIEWS
    return Bound(seconds, flop)


def convolutions(name: str, size: int = 32) -> Counter[Shape]:
    """The convolutions of a forward pass, equal ones counted."""
    found: Counter[Shape] = Counter()

    def note(module: nn.Module, inputs: tuple[torch.Tensor, ...], _: torch.Tensor) -> None:
        assert isinstance(module, nn.Conv2d)
        assert not isinstance(module.padding, str)
        key = Shape(
            tuple(inputs[0].shape[1:]),
            module.out_channels,
            module.kernel_size,
            module.stride,
            module.padding,
            module.groups,
        )
        found[key] += 1

    with torch.device("meta"):
        network = build_network(name, 100).eval()
        for module in network.modules():
            if isinstance(module, nn.Conv2d):
                module.register_forward_hook(note)
        network(torch.empty(1, 3, size, size))
    return found


def time_convolution(shape: Shape, precision: str, backward: bool, to_input: bool, repeats: int = 9) -> float:
    """Seconds: the median of a few calls, after two to warm up."""
    dtype = DTYPES.get(precision, torch.float32)
    layer = shape.layer().to(dtype=dtype, memory_format=torch.channels_last)
    images = torch.randn(BATCH * VIEWS, *shape.inputs).to(dtype=dtype, memory_format=torch.channels_last)
    images.requires_grad_(backward and to_input)
    learned = [layer.weight, images] if to_input else [layer.weight]
    gradient = None
    times = []
    for _ in range(repeats + 2):
        started = time.perf_counter()
        with torch.set_grad_enabled(backward):
            output = layer(images)
        if backward:
            gradient = torch.ones_like(output) if gradient is None else gradient
            torch.autograd.grad(output, learned, gradient)  # adds nothing up: that is not the convolution's work
        times.append(time.perf_counter() - started)
    return statistics.median(times[2:])


if __name__ == "__main__":
    main()
