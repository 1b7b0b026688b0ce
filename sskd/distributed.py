"""Several processes for one run, through torch.distributed: each has its part of every batch.

Gradients are averaged over the processes, in one all-reduce after the backward pass. A loss is of the whole batch:
every process gathers all features and computes the same loss; the backward pass of the gathering gives each its own
rows' gradient times the number of processes, so that the average is the gradient of the whole batch for the networks,
and for what is applied to gathered features (heads, embeddings) it is so already.
"""

from collections.abc import Iterable
from datetime import timedelta
from typing import Any, NamedTuple

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.autograd import Function

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
    """Makes this process one of ``size``. ``init_method``: a torch.distributed address, such as file:///a/new/file."""
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


def mean_over_processes(values: Tensor) -> Tensor:
    if dist.is_initialized():
        dist.all_reduce(values)
        values /= dist.get_world_size()
    return values


def average_gradients(parameters: Iterable[nn.Parameter]) -> None:
    """Every gradient becomes its mean over the processes: one all-reduce of all of them."""
    if not dist.is_initialized():
        return
    gradients = [p.grad for p in parameters if p.grad is not None]
    flat = mean_over_processes(torch.cat([gradient.flatten() for gradient in gradients]))
    parts = flat.split([gradient.numel() for gradient in gradients])
    torch._foreach_copy_(gradients, [part.view_as(g) for part, g in zip(parts, gradients, strict=True)])


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
