"""A run's state after an epoch as one file of tensors and JSON (execution.keep_epochs), and its hash.

The file is a safetensors file: the tensors, and in its metadata under "state" the rest as JSON. Loading it executes
nothing. Under "strides" it has the memory layout of tensors that lie otherwise than row by row: arithmetic on another
layout rounds otherwise, and the run would not go on bit for bit. The hash is of what decides how the run goes on,
and of nothing that the clock decides.
"""

import hashlib
import json
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save as safetensors_bytes
from torch import Tensor

from sskd.config.yaml import refuse_strange_values
from sskd.errors import UserError

State = dict[str, Any]

# Of a checkpoint, what is no part of the training's course: metrics.jsonl has the rows, result.json the plugins, and
# between two epochs the meter is empty.
UNCOUNTED = ("rows", "seconds", "plugins", "meter")

# what comes of a file that somebody else may have made
UNREADABLE = (
    UserError,
    OSError,
    SafetensorError,
    KeyError,
    TypeError,
    ValueError,
    AttributeError,
    RuntimeError,  # torch's, and Python's of a recursion that is too deep
)


def state_bytes(state: State) -> bytes:
    """The file's content. What is UNCOUNTED is left out."""
    tree, tensors = _packed(state)
    strides = {name: list(tensor.stride()) for name, tensor in tensors.items() if tensor.stride() != _usual(tensor)}
    rows = {name: tensor.contiguous().clone() for name, tensor in tensors.items()}  # no memory twice in a file
    return safetensors_bytes(rows, metadata={"state": _text(tree), "strides": _text(strides)})


def read_state(path: Path) -> State:
    """What ``state_bytes`` was given, on the CPU. UserError if the file is missing, damaged or of another kind."""
    try:
        with safe_open(path, framework="pt") as file:
            known = {key: json.loads(text) for key, text in (file.metadata() or {}).items()}
            refuse_strange_values(known)
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
            tensors |= {name: _laid_out(tensors[name], strides) for name, strides in known["strides"].items()}
            state = _unpacked(known["state"], tensors)
    except UNREADABLE as error:
        raise UserError(f"cannot read the state {path}: {' '.join(str(error).split())[:150]}") from None
    if not isinstance(state, dict):
        raise UserError(f"{path} holds no state of a run")
    return state


def state_hash(state: State) -> str:
    """sha256 of the state's content, bit for bit: names, types, shapes and bytes of tensors, and the rest as JSON."""
    tree, tensors = _packed(state)
    digest = hashlib.sha256(_text(tree).encode())
    for name in sorted(tensors):
        tensor = tensors[name]
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}\n".encode())
        digest.update(tensor.contiguous().reshape(-1).view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()


def _packed(state: State) -> tuple[Any, dict[str, Tensor]]:
    """The state as JSON that names tensors, and these by name."""
    tensors: dict[str, Tensor] = {}

    def pack(value: Any, name: str) -> Any:
        if isinstance(value, Tensor):
            tensors[name] = value.detach().cpu()
            return {"tensor": name}
        if isinstance(value, dict):  # as pairs: an optimiser's keys are numbers, which JSON would make strings
            return {"items": [[key, pack(item, f"{name}/{key}")] for key, item in value.items()]}
        if isinstance(value, list | tuple):
            return {"list": [pack(item, f"{name}/{place}") for place, item in enumerate(value)]}
        return value

    tree = {key: pack(value, key) for key, value in state.items() if key not in UNCOUNTED}
    return tree, tensors


def _usual(tensor: Tensor) -> tuple[int, ...]:
    """The strides of a tensor of this shape that lies row by row."""
    return torch.empty(tensor.shape, device="meta").stride()


def _laid_out(tensor: Tensor, strides: list[int]) -> Tensor:
    """The tensor with these strides. ValueError where they leave gaps: a file may claim any memory by them."""
    spans = [(size - 1) * stride for size, stride in zip(tensor.shape, strides, strict=True)]
    if sum(spans) + 1 != tensor.numel() or min(strides) < 0:
        raise ValueError(f"strides {strides} do not fit the shape {tuple(tensor.shape)}")
    return torch.empty_strided(tensor.shape, strides, dtype=tensor.dtype).copy_(tensor)


def _text(tree: Any) -> str:
    return json.dumps(tree, sort_keys=True, separators=(",", ":"))


def _unpacked(tree: Any, tensors: dict[str, Tensor]) -> Any:
    def unpack(value: Any) -> Any:
        if not isinstance(value, dict):
            return value
        ((kind, content),) = value.items()
        if kind == "tensor":
            return tensors[content]
        if kind == "items":
            return {key: unpack(item) for key, item in content}
        return [unpack(item) for item in content]

    return {key: unpack(value) for key, value in tree.items()}


def in_order(data: bytes) -> bytes:
    """A safetensors file with its header's keys sorted. The library writes metadata in an order that changes from
    process to process, so equal weights would have unequal checksums. Offsets in the header count from its end."""
    size = int.from_bytes(data[:8], "little")
    header = json.dumps(json.loads(data[8 : 8 + size]), sort_keys=True, separators=(",", ":")).encode()
    header += b" " * (-len(header) % 8)  # tensors stay aligned
    return len(header).to_bytes(8, "little") + header + data[8 + size :]


def is_whole(path: Path) -> bool:
    """Returns whether a safetensors file has the length that its header says."""
    try:
        with safe_open(path, framework="pt"):
            return True
    except (SafetensorError, OSError):
        return False
