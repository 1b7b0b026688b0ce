"""Several processes for one run, through torch.distributed: each has its part of every batch.

A loss is of the whole batch: every process gathers all features (``gather_rows``) and computes the same loss. Gradients
are averaged by torch's DistributedDataParallel, while the backward pass still goes on. It is put around a stage's whole
loss (``averaging_gradients``) and not around the network's forward pass alone, so that it covers exactly what the stage
trains:

- The network sees its own rows. The backward pass of the gathering gives it its rows' gradient times the number of
  processes, so that the mean over the processes is the gradient of the whole batch.
- What is applied to gathered features (heads, embeddings) has the whole batch's gradient in every process already. The
  mean leaves it as it is, and keeps these modules alike where a GPU adds up in another order in each process.
- What a stage does not train, and what its loss does not reach, takes no part: a method's initial stage may train some
  layers of the network alone.

Buffers are each process's own, and DistributedDataParallel sees none: batch norm's running statistics are evaluated and
saved by the first process, and a memory bank is alike in all, as it takes in gathered features.
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

# how long a process waits for the others: an evaluation's length is no reason to give up
TIMEOUT = timedelta(minutes=30)


class Replica(NamedTuple):
    """A process's part of every batch: it is the ``rank``-th (from 0) of ``size`` processes."""

    rank: int = 0
    world_size: int = 1

    def rows(self, count: int) -> slice:
        """This process's rows of a batch of ``count``: consecutive, sizes differ by at most one."""
        return slice(count * self.rank // self.world_size, count * (self.rank + 1) // self.world_size)

    def sizes(self, count: int) -> list[int]:
        """How many rows each process has."""
        parts = [Replica(rank, self.world_size).rows(count) for rank in range(self.world_size)]
        return [part.stop - part.start for part in parts]


_control: list[Any] = []  # the group for the hosts' agreement, on the CPU: it does not make them wait for their GPUs


def join(rank: int, world_size: int, init_method: str, on_gpu: bool) -> None:
    """Makes this process one of ``world_size``. ``init_method``: an address of torch.distributed, as file:///new/file."""
    backend = "nccl" if on_gpu else "gloo"
    dist.init_process_group(backend, init_method=init_method, rank=rank, world_size=world_size, timeout=TIMEOUT)
    _control[:] = [dist.new_group(backend="gloo", timeout=TIMEOUT)]


def is_peer_failure(error: Exception) -> bool:
    """Whether the error says no more than that another process of the run is gone: that one knows why."""
    return isinstance(error, dist.DistError) or (dist.is_initialized() and "gloo" in str(error))


def this_replica() -> Replica:
    """The part of the present process; the whole where there is no other."""
    return Replica(dist.get_rank(), dist.get_world_size()) if dist.is_initialized() else Replica()


def barrier() -> None:
    """Until all processes are here."""
    if dist.is_initialized():
        dist.barrier(group=_control[0])


def any_rank(value: bool) -> bool:
    """Whether the value is true in any process."""
    if not dist.is_initialized():
        return value
    found = torch.tensor(int(value))
    dist.all_reduce(found, dist.ReduceOp.MAX, group=_control[0])
    return bool(found)


class _Loss(nn.Module):
    """A loss as the forward pass of a module that has the parameters, and no buffers."""

    def __init__(self, loss: Callable[[Any], Any], parameters: Iterable[nn.Parameter]) -> None:
        super().__init__()
        self.trained = nn.ParameterList(parameters)
        self._loss = loss

    def forward(self, batch: Any) -> Any:
        return self._loss(batch)


def averaging_gradients(loss: Loss, parameters: Iterable[nn.Parameter]) -> Loss:
    """The loss, in whose backward pass the parameters' gradients become their means over the processes. Where there are
    several, all of them must call this at the same time: it gives all of them the first one's parameters."""
    if not dist.is_initialized():
        return loss
    # static: what the loss does not reach in the first step it never reaches, and it is not looked for at every step
    return cast(Loss, DDP(_Loss(loss, parameters), static_graph=True))


def gather_rows(rows: Tensor, sizes: list[int]) -> Tensor:
    """The rows of all processes, in their order: (n, ...) to (sum of ``sizes``, ...). With gradient: see above."""
    return _Gather.apply(rows, sizes)


class _Gather(Function):
    @staticmethod
    def forward(ctx: Any, rows: Tensor, sizes: list[int]) -> Tensor:
        ctx.sizes = sizes
        padded = rows.new_zeros(max(sizes), *rows.shape[1:])  # the parts of an all-gather are of one size
        padded[: len(rows)] = rows
        parts = [torch.empty_like(padded) for _ in sizes]
        dist.all_gather(parts, padded)
        return torch.cat([part[:count] for part, count in zip(parts, sizes, strict=True)])

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None]:
        rank, sizes = dist.get_rank(), ctx.sizes
        start = sum(sizes[:rank])
        return gradient[start : start + sizes[rank]] * len(sizes), None
