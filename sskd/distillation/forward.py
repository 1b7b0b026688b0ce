"""Forward passes of teacher and student, in the fast forms that a run's execution allows."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from functools import partial
from typing import Any, Literal, NamedTuple

import torch
from torch import Tensor, nn
from torch.autograd import Function
from torch.func import functional_call

from sskd.networks import Features, Network
from sskd.networks.folded import FrozenNetwork, Whole
from sskd.runtime.device import DTYPES, autocast

# float32 images that a CPU's teacher sees at a time, and twice as many in a type of two bytes: their maps stay in its
# caches from layer to layer. In eval mode what is computed of an image does not depend on the others, so this changes
# nothing, or the last bit.
PIECE = 64


class Passes(NamedTuple):
    """How forward passes are computed. The defaults are those of a training loop of one's own: whatever autocast it has
    set, nothing compiled, and networks in the memory layout that they have."""

    precision: Literal["fp32", "bf16", "fp16"] | str | None = None  # None: as the caller's autocast says
    fold_teacher: bool = True  # whether the teacher's batch norms are folded into its convolutions
    compile: str = "off"  # torch.compile's mode for the student; "off": not compiled
    channels_last: bool | None = None  # the memory layout of networks that are made here; None: as the given ones
    images_at_once: int | None = None  # of the teacher on a CPU; None: as many as its caches hold

    def context(self, device: torch.device) -> AbstractContextManager[None]:
        """The context in which a network runs."""
        return nullcontext() if self.precision is None else autocast(device, self.precision)

    @property
    def layout(self) -> torch.memory_format:
        """The memory layout of networks."""
        if self.channels_last is None:
            return torch.preserve_format
        return torch.channels_last if self.channels_last else torch.contiguous_format

    @property
    def dtype(self) -> torch.dtype | None:
        """The type that the precision's arithmetic has; None: float32."""
        return DTYPES.get(self.precision or "")


class TeacherForward:
    """The teacher's forward pass in inference mode, with float32 copies of what ``kept`` names.

    Copies, because tensors that were made in inference mode may not be kept for a backward pass. Logits and the pooled
    vector are always copied, maps only where ``kept`` names them. The weights are read when this is built.
    """

    def __init__(self, teacher: Network, kept: frozenset[str], passes: Passes) -> None:
        device = next(teacher.parameters()).device
        self._teacher: Network | FrozenNetwork = teacher
        self._context = passes.context(device)
        self._kept = kept
        dtype = passes.dtype or torch.float32
        self._piece = passes.images_at_once or PIECE * torch.float32.itemsize // dtype.itemsize
        if passes.fold_teacher and teacher.foldable:
            folded = FrozenNetwork(teacher, dtype, "preactivations" in kept)
            self._teacher = folded.to(device).to(memory_format=passes.layout)
            if passes.precision is not None:
                self._context = autocast(device, "fp32")  # the weights have the precision already

    def __call__(self, images: Tensor) -> Features:
        if images.device.type != "cpu" or len(images) <= self._piece:
            return self._features(images).map(partial(Tensor.to, dtype=torch.float32, copy=True), self._kept)
        first, *others = (self._features(piece).map(Tensor.float, self._kept) for piece in images.split(self._piece))
        return first.map(lambda *pieces: torch.cat(pieces), self._kept, *others)

    def _features(self, images: Tensor) -> Features:
        with torch.inference_mode(), self._context:
            return self._teacher.features(images)


def training_pass(network: Network, passes: Passes) -> Callable[[Tensor], Features]:
    """Returns the forward pass of a network that learns: compiled where ``passes`` says so, and on a GPU, in a
    precision that is known, with fewer launches. Its features are float32 or of the precision's type."""
    if passes.compile != "off":
        forward: Callable[[Tensor], Features] = torch.compile(network.features, mode=passes.compile, dynamic=False)
    elif passes.precision is not None and next(network.parameters()).device.type == "cuda":
        forward = ForeachForward(network, passes.dtype)
    else:
        forward = network.features

    def features(images: Tensor) -> Features:
        with passes.context(images.device):
            return forward(images)

    return features


class ForeachForward:
    """``network.features`` within autocast, with what is done to every layer done to all in one launch: weights cast to
    ``dtype`` (None: not at all), their gradients cast back, batch norms' counters raised. The numbers are the same."""

    def __init__(self, network: Network, dtype: torch.dtype | None) -> None:
        self._whole, self._dtype = Whole(network), dtype
        self._norms = [m for m in network.modules() if isinstance(m, nn.modules.batchnorm._NormBase)]
        self._weights = {
            f"{name}.{key}": parameter
            for name, module in self._whole.named_modules()
            if type(module) in (nn.Conv2d, nn.Linear)  # what autocast runs in the lower precision
            for key, parameter in module.named_parameters(recurse=False)
            if parameter.requires_grad
        }

    def __call__(self, images: Tensor) -> Features:
        with _foreach_batch_counters(self._norms):
            if self._dtype is None or not self._weights:
                return self._whole(images)
            cast = _Cast.apply(self._dtype, *self._weights.values())
            return functional_call(self._whole, dict(zip(self._weights, cast, strict=True)), (images,))


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
def _foreach_batch_counters(norms: Sequence[nn.modules.batchnorm._NormBase]) -> Iterator[None]:
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
