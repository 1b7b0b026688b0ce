"""sskd.Distiller in two processes that gather their batches: as one process with the whole batch."""

import multiprocessing as mp
import os
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.distributed as dist
from torch import Tensor
from torch.nn.parallel import DistributedDataParallel

import sskd
from sskd.networks import build_network
from tests import group_norm

SIZE, N = 16, 24
assert group_norm  # registers the network
TOGETHER = ("at", "cc", "rkd", "crd", "sskd")


def together(method: str) -> sskd.Distiller:
    torch.manual_seed(0)
    student, teacher = build_network("group_norm", 10), build_network("group_norm", 10)
    head = sskd.train_head(teacher, [(torch.rand(6, 3, SIZE, SIZE),)], epochs=1) if method == "sskd" else None
    settings: Any = sskd.settings("crd", negatives=4) if method == "crd" else method
    given: dict[str, Any] = {"num_classes": 10, "sample": torch.rand(2, 3, SIZE, SIZE)}
    given |= {"train_labels": torch.arange(N) % 10, "head": head, "gather": dist.is_initialized()}
    return sskd.Distiller(student, teacher, settings, **given)


def trained(module: Any, made: sskd.Distiller, rows: slice) -> tuple[list[float], list[Tensor]]:
    images = torch.rand(12, 3, SIZE, SIZE, generator=torch.Generator().manual_seed(1))
    labels, indices, losses = torch.arange(12) % 10, torch.arange(12), []
    optimizer = torch.optim.SGD(made.parameters(), 0.05)
    for _ in range(2):
        loss, _ = module(images[rows], labels[rows], indices[rows])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        made.after_step()
        losses.append(loss.item())
    return losses, [p.detach().clone() for p in made.parameters()]


def one_of_two(rank: int, meeting: str, found: Any) -> None:
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=meeting, rank=rank, world_size=2)
    for method in TOGETHER:
        made = together(method)
        part = trained(DistributedDataParallel(made), made, slice(6 * rank, 6 * rank + 6))
        if rank == 0:
            found.put((method, part[0], [value.numpy() for value in part[1]]))
    found.close()
    found.join_thread()
    dist.barrier()
    os._exit(0)


def test_two_processes_that_gather_are_as_one(tmp_path: Path) -> None:
    context = mp.get_context("spawn")
    found: Any = context.Queue()
    workers = [context.Process(target=one_of_two, args=(rank, f"file://{tmp_path}/meeting", found)) for rank in (0, 1)]
    for worker in workers:
        worker.start()
    by_two = {method: (losses, weights) for method, losses, weights in (found.get(timeout=120) for _ in TOGETHER)}
    for worker in workers:
        worker.join()
    for method in TOGETHER:
        made = together(method)
        losses, weights = trained(made, made, slice(0, 12))
        assert by_two[method][0] == pytest.approx(losses, rel=1e-4), method
        for own, other in zip(weights, by_two[method][1], strict=True):
            torch.testing.assert_close(torch.from_numpy(other), own, rtol=1e-3, atol=1e-5)
