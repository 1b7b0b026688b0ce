"""Forward passes in the run's precision, in the fast forms that its execution's settings allow."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd import Function
from torch.func import functional_call

from sskd.networks import Features, Network
from sskd.networks.folded import FrozenNetwork
from sskd.runtime.device import DTYPES, autocast
from sskd.training.setup import Setup

# float32 images that a CPU's teacher sees at a time, and twice as many in a type of two bytes: their maps stay in its
# caches from layer to layer. In eval mode what is computed of an image does not depend on the others, so this changes
# nothing, or the last bit.
PIECE = 64


class TeacherForward:
    """The teacher's forward pass: inference mode, the run's precision, and float32 copies of what is asked for.

    Copies, because tensors made in inference mode may not be kept for a backward pass. Only what ``needs`` names is
    copied beside logits and the pooled vector. ``images_at_once``: on a CPU; None: as many as its caches hold.
    """

    def __init__(
        self, teacher: Network, setup: Setup, needs: frozenset[str], images_at_once: int | None = None
    ) -> None:
        self._teacher: Network | FrozenNetwork = teacher
        self._context = autocast(setup.device, setup.precision)
        self._needs = needs
        dtype = DTYPES.get(setup.precision, torch.float32)
        self._piece = images_at_once or PIECE * torch.float32.itemsize // dtype.itemsize
        if setup.execution.fold_teacher and teacher.foldable:
            self._teacher = setup.place(FrozenNetwork(teacher, dtype, "preactivations" in needs))
            self._context = autocast(setup.device, "fp32")  # the weights have the precision already

    def __call__(self, images: Tensor) -> Features:
        if images.device.type != "cpu" or len(images) <= self._piece:
            return self._features(images).map(partial(Tensor.to, dtype=torch.float32, copy=True), self._needs)
        first, *others = (self._features(piece).map(Tensor.float, self._needs) for piece in images.split(self._piece))
        return first.map(lambda *pieces: torch.cat(pieces), self._needs, *others)

    def _features(self, images: Tensor) -> Features:
        with torch.inference_mode(), self._context:
            return self._teacher.features(images)


def training_pass(network: Network, setup: Setup) -> Callable[[Tensor], Features]:
    """The forward pass of a network that learns: compiled where the execution's settings say so, and on a GPU with
    fewer launches."""
    mode = setup.execution.compile
    if mode != "off":
        return torch.compile(network.features, mode=mode, dynamic=False)
    if setup.device.type == "cuda":
        return TogetherForward(network, DTYPES.get(setup.precision))
    return network.features


class TogetherForward:
    """``network.features`` within autocast, with what is done to every layer done to all in one launch: weights cast to
    ``dtype`` (None: not at all), their gradients cast back, batch norms' counters raised. The numbers are the same."""

    def __init__(self, network: Network, dtype: torch.dtype | None) -> None:
        self._whole, self._dtype = _Whole(network), dtype
        self._norms = [m for m in network.modules() if isinstance(m, nn.modules.batchnorm._NormBase)]
        self._weights = {
            f"{name}.{key}": parameter
            for name, module in self._whole.named_modules()
            if type(module) in (nn.Conv2d, nn.Linear)  # what autocast runs in the lower precision
            for key, parameter in module.named_parameters(recurse=False)
            if parameter.requires_grad
        }

    def __call__(self, images: Tensor) -> Features:
        with _counted_together(self._norms):
            if self._dtype is None or not self._weights:
                return self._whole(images)
            cast = _Cast.apply(self._dtype, *self._weights.values())
            return functional_call(self._whole, dict(zip(self._weights, cast, strict=True)), (images,))


class _Whole(nn.Module):
    """A network as a module that gives everything."""

    def __init__(self, network: Network) -> None:
        super().__init__()
        self.network = network

    def forward(self, images: Tensor) -> Features:
        return self.network.features(images)


class _Cast(Function):
    """Tensors to another type, their gradients back to their own; no gradient where there is none."""

    @staticmethod
    def forward(ctx: Any, dtype: torch.dtype, *tensors: Tensor) -> tuple[Tensor, ...]:
        ctx.set_materialize_grads(False)
        ctx.dtypes = [tensor.dtype for tensor in tensors]
        cast = [torch.empty_like(tensor, dtype=dtype) for tensor in tensors]
        torch._foreach_copy_(cast, list(tensors))
        return tuple(cast)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor | None) -> tuple[Tensor | None, ...]:
        there = [(g, dtype) for g, dtype in zip(gradients, ctx.dtypes, strict=True) if g is not None]
        cast = [torch.empty_like(g, dtype=dtype) for g, dtype in there]
        torch._foreach_copy_(cast, [g for g, _ in there])
        found = iter(cast)
        return None, *(None if g is None else next(found) for g in gradients)


@contextmanager
def _counted_together(norms: Sequence[nn.modules.batchnorm._NormBase]) -> Iterator[None]:
    """The batches that norms in train mode have seen are counted at the end. Nothing is computed from these numbers
    where the running averages have a momentum; where they have none, the norms count for themselves."""
    counters = {
        norm: norm.num_batches_tracked
        for norm in norms
        if norm.training and norm.momentum is not None and norm.num_batches_tracked is not None
    }
    for norm in counters:
        norm.num_batches_tracked = None
    try:
        yield
    finally:
        for norm, counter in counters.items():
            norm.num_batches_tracked = counter
    if counters:
        torch._foreach_add_(list(counters.values()), 1)
