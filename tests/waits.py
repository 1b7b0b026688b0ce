"""Finds the operations of a step that would make the host wait for a GPU, without a GPU: by the dispatched
operations."""

import traceback
from typing import Any

import torch
from torch.utils._python_dispatch import TorchDispatchMode

WAIT = {
    torch.ops.aten._local_scalar_dense.default,  # .item(), float(), bool(), if
    torch.ops.aten.nonzero.default,  # the size of the result is asked for
    torch.ops.aten.masked_select.default,
    torch.ops.aten.repeat_interleave.Tensor,
    torch.ops.aten.lift_fresh.default,  # torch.tensor(...), new_tensor(...): from the host's pageable memory
    torch.ops.aten.equal.default,
    torch.ops.aten.bincount.default,
    torch.ops.aten._unique2.default,
}


INDEXED = {torch.ops.aten.index.Tensor, torch.ops.aten.index_put_.default, torch.ops.aten.index_put.default}


def _asks_for_a_size(func: Any, args: Any) -> bool:
    """Returns True if the operation indexes with a mask."""
    return func in INDEXED and any(i is not None and i.dtype in (torch.bool, torch.uint8) for i in args[1])


class Waits(TorchDispatchMode):
    """Lists the lines of this project that wait. ``with Waits() as waits: step()``, then ``waits.lines`` is empty."""

    def __init__(self) -> None:
        super().__init__()
        self.lines: list[str] = []

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func in WAIT or _asks_for_a_size(func, args):
            ours = [frame for frame in traceback.extract_stack() if "-packages" not in frame.filename]
            self.lines.append(f"{func}: {ours[-2].filename}:{ours[-2].lineno}")
        return func(*args, **(kwargs or {}))
