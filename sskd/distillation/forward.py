"""Fast forward passes of teacher and student, and the gathering of their features from all ranks."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from functools import partial
from typing import Any, Literal, NamedTuple

import torch
from torch import Tensor, nn
from torch.autograd import Function
from torch.func import functional_call

from sskd.data.batch import Batch
from sskd.networks import Features, Network
from sskd.networks.folded import FeatureModule, FrozenNetwork
from sskd.runtime.device import DTYPES, autocast
from sskd.runtime.distributed import Rank, all_gather_with_grad

# Images per chunk of the teacher's forward pass on a CPU (float32; twice as many for two-byte dtypes), so that the maps
# stay in the CPU's caches. In eval mode images are independent, so chunks change the results by rounding at most.
CHUNK = 64


class Passes(NamedTuple):
    """Execution settings of forward passes. The defaults fit any training loop: the caller's autocast, no compilation,
    and the networks' own memory layout."""

    precision: Literal["fp32", "bf16", "fp16"] | str | None = None  # None: the caller's autocast
    fold_teacher: bool = True  # fold the teacher's batch norms into its convolutions
    compile: str = "off"  # torch.compile's mode for the student; "off": not compiled
    channels_last: bool | None = None  # memory layout of the networks; None: unchanged

    def context(self, device: torch.device) -> AbstractContextManager[None]:
        """Returns the autocast context of the forward pass."""
        return nullcontext() if self.precision is None else autocast(device, self.precision)

    @property
    def layout(self) -> torch.memory_format:
        """Memory layout of the networks."""
        if self.channels_last is None:
            return torch.preserve_format
        return torch.channels_last if self.channels_last else torch.contiguous_format

    @property
    def dtype(self) -> torch.dtype | None:
        """Lower-precision dtype of the arithmetic, or None for float32."""
        return DTYPES.get(self.precision or "")


class TeacherForward:
    """Forward pass of the teacher in inference mode, which returns float32 copies of its features.

    Inference tensors cannot be saved for a backward pass, hence the copies. kept: kinds of maps that are copied; logits
    and pooled features always are. The teacher's weights are read when the object is created.
    """

    def __init__(self, teacher: Network, kept: frozenset[str], passes: Passes) -> None:
        device = next(teacher.parameters()).device
        self._teacher: Network | FrozenNetwork = teacher
        self._context = passes.context(device)
        self._kept = kept
        dtype = passes.dtype or torch.float32
        self._chunk = CHUNK * torch.float32.itemsize // dtype.itemsize
        if passes.fold_teacher and teacher.foldable:
            folded = FrozenNetwork(teacher, dtype, "preactivations" in kept)
            self._teacher = folded.to(device).to(memory_format=passes.layout)
            if passes.precision is not None:
                self._context = autocast(device, "fp32")  # the weights already have the precision

    def __call__(self, images: Tensor) -> Features:
        if images.device.type != "cpu" or len(images) <= self._chunk:
            return self._features(images).map(partial(Tensor.to, dtype=torch.float32, copy=True), self._kept)
        first, *others = (self._features(piece).map(Tensor.float, self._kept) for piece in images.split(self._chunk))
        return first.map(lambda *pieces: torch.cat(pieces), self._kept, *others)

    def _features(self, images: Tensor) -> Features:
        with torch.inference_mode(), self._context:
            return self._teacher.features(images)


def training_pass(network: Network, passes: Passes) -> Callable[[Tensor], Features]:
    """Returns the forward pass of a network in training, compiled if ``passes`` requires it, and with fewer kernels on
    a GPU if the precision is known. Its features are float32 or of the precision's dtype."""
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
    """``network.features`` within autocast, with foreach kernels for all layers: they cast the weights to ``dtype``
    (None: no cast), cast the gradients back, and increment the batch norms' counters. Results are unchanged."""

    def __init__(self, network: Network, dtype: torch.dtype | None) -> None:
        self._module, self._dtype = FeatureModule(network), dtype
        self._norms = [m for m in network.modules() if isinstance(m, nn.modules.batchnorm._NormBase)]
        self._weights = {
            f"{name}.{key}": parameter
            for name, module in self._module.named_modules()
            if type(module) in (nn.Conv2d, nn.Linear)  # layers that autocast runs in the lower precision
            for key, parameter in module.named_parameters(recurse=False)
            if parameter.requires_grad
        }

    def __call__(self, images: Tensor) -> Features:
        with _foreach_batch_counters(self._norms):
            if self._dtype is None or not self._weights:
                return self._module(images)
            cast = _Cast.apply(self._dtype, *self._weights.values())
            return functional_call(self._module, dict(zip(self._weights, cast, strict=True)), (images,))


class _Cast(Function):
    """Casts tensors to another dtype, and their gradients back. Missing gradients stay None."""

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
    """Increments the batch counters of norms in train mode with one foreach kernel at the end of the context. The
    counters do not affect results if the norm has a momentum; norms without momentum count as usual."""
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


# --- several processes: each computes the loss of the global batch ----------------------------------------------------


def global_features(forward: Callable[[Tensor], Features], batch: Batch, kept: frozenset[str], rank: Rank) -> Features:
    """Returns the features of the global batch, float32, in rank order, with the gradient that ``forward`` gives
    (sskd/runtime/distributed.py). kept: kinds of maps that are needed."""
    features = forward(batch.images).map(Tensor.float, kept)
    if rank.world_size == 1:
        return features
    sizes = [batch.views_per_image * size for size in rank.sizes(batch.global_batch_size)]
    return features.map(partial(all_gather_with_grad, sizes=sizes), kept)


def global_batch(batch: Batch, rank: Rank) -> Batch:
    """Returns the global batch for ``global_features``. Its ``images`` are empty and only have the number of rows."""
    if rank.world_size == 1:
        return batch
    sizes = rank.sizes(batch.global_batch_size)
    of_views = [batch.views_per_image * size for size in sizes]
    return batch._replace(
        images=batch.images.new_empty(sum(of_views), 0),
        labels=all_gather_with_grad(batch.labels, sizes),
        indices=all_gather_with_grad(batch.indices, sizes),
        mixed_labels=None if batch.mixed_labels is None else all_gather_with_grad(batch.mixed_labels, sizes),
        view_labels=None if batch.view_labels is None else all_gather_with_grad(batch.view_labels, of_views),
    )
