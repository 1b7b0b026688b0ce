"""Data-parallel training of one run, with torch.distributed: each process has a part of every batch.

The loss is computed on the global batch: every process gathers the features of all ranks (``all_gather_with_grad``)
and computes the same loss. DistributedDataParallel (DDP) averages the gradients during the backward pass. It wraps the
loss of a stage (``wrap_in_ddp``), not only the network's forward pass, so it covers exactly the trained parameters:

- The network only sees this rank's rows. The backward pass of the gathering returns the gradient of these rows times
  the number of processes, so the mean over the ranks is the gradient of the global batch.
- Modules that are applied to gathered features (heads, embeddings) already have the gradient of the global batch on
  every rank. Averaging does not change it; it only keeps the ranks identical if GPUs sum in different orders.
- Parameters that a stage does not train, or that its loss does not use, are left out: an initial stage of a method may
  train single layers.

DDP sees no buffers, so each process keeps its own. Rank 0's running statistics of batch norm are evaluated and saved. A
memory bank is identical on all ranks, because it stores gathered features.
"""

from collections.abc import Callable, Iterable
from datetime import timedelta
from typing import Any, NamedTuple, TypeVar, cast

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.autograd import Function
from torch.nn.parallel import DistributedDataParallel as DDP

Loss = TypeVar("Loss", bound=Callable[..., Any])

# of all collectives: longer than an evaluation, which rank 0 runs while the other ranks wait
TIMEOUT = timedelta(minutes=30)


class Rank(NamedTuple):
    """The rank of a process, which decides its rows of every batch."""

    number: int = 0  # from 0
    world_size: int = 1  # number of processes

    def rows(self, count: int) -> slice:
        """Returns this rank's rows of a batch of ``count``: consecutive; the sizes of two ranks differ by at most 1."""
        return slice(count * self.number // self.world_size, count * (self.number + 1) // self.world_size)

    def sizes(self, count: int) -> list[int]:
        """Returns the number of rows of each rank, for a batch of ``count``."""
        parts = [Rank(number, self.world_size).rows(count) for number in range(self.world_size)]
        return [part.stop - part.start for part in parts]


_control: list[Any] = []  # the process group for CPU collectives, which need no host-device synchronisation


def join(rank: int, world_size: int, init_method: str, on_gpu: bool) -> None:
    """Initialises torch.distributed in this process. ``init_method``: its URL, for example file:///new/file."""
    backend = "nccl" if on_gpu else "gloo"
    dist.init_process_group(backend, init_method=init_method, rank=rank, world_size=world_size, timeout=TIMEOUT)
    _control[:] = [dist.new_group(backend="gloo", timeout=TIMEOUT)]


def is_peer_failure(error: Exception) -> bool:
    """Returns True if the error only says that another process of the run has ended: that process has the cause."""
    return isinstance(error, dist.DistError) or (dist.is_initialized() and "gloo" in str(error))


def this_rank() -> Rank:
    """Returns the rank of this process; rank 0 of 1 without torch.distributed."""
    return Rank(dist.get_rank(), dist.get_world_size()) if dist.is_initialized() else Rank()


def barrier() -> None:
    """Blocks until all ranks have called it."""
    if dist.is_initialized():
        dist.barrier(group=_control[0])


def any_rank(value: bool) -> bool:
    """Returns True on all ranks if the value is True on any of them."""
    if not dist.is_initialized():
        return value
    found = torch.tensor(int(value))
    dist.all_reduce(found, dist.ReduceOp.MAX, group=_control[0])
    return bool(found)


class _Loss(nn.Module):
    """Makes a loss the forward pass of a module, for DDP: the module has the parameters and no buffers."""

    def __init__(self, loss: Callable[[Any], Any], parameters: Iterable[nn.Parameter]) -> None:
        super().__init__()
        self.trained = nn.ParameterList(parameters)
        self._loss = loss

    def forward(self, batch: Any) -> Any:
        return self._loss(batch)


def wrap_in_ddp(loss: Loss, parameters: Iterable[nn.Parameter]) -> Loss:
    """Wraps a loss in DistributedDataParallel, which averages the gradients of ``parameters`` over the ranks.

    All ranks must call it at the same time: it broadcasts the parameters of rank 0. Returns the loss itself without
    torch.distributed.
    """
    if not dist.is_initialized():
        return loss
    # static graph: parameters that are unused in the first step are never used, so DDP need not search in every step
    return cast(Loss, DDP(_Loss(loss, parameters), static_graph=True))


def all_gather_with_grad(rows: Tensor, sizes: list[int]) -> Tensor:
    """Gathers the rows of all ranks in their order: (n, ...) to (sum of ``sizes``, ...). Differentiable (see above)."""
    return _AllGatherWithGrad.apply(rows, sizes)


class _AllGatherWithGrad(Function):
    @staticmethod
    def forward(ctx: Any, rows: Tensor, sizes: list[int]) -> Tensor:
        ctx.sizes = sizes
        padded = rows.new_zeros(max(sizes), *rows.shape[1:])  # all_gather needs equal sizes
        padded[: len(rows)] = rows
        parts = [torch.empty_like(padded) for _ in sizes]
        dist.all_gather(parts, padded)
        return torch.cat([part[:count] for part, count in zip(parts, sizes, strict=True)])

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None]:
        rank, sizes = dist.get_rank(), ctx.sizes
        start = sum(sizes[:rank])
        return gradient[start : start + sizes[rank]] * len(sizes), None
