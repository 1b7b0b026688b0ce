"""The state of a run after an epoch as one file (execution.keep_epochs), and its hash.

The file is a safetensors file with the tensors; its metadata has the other values as JSON under "state". Loading it
executes nothing. Under "strides" it has the memory layout of tensors that are not contiguous, because arithmetic on
another layout rounds differently, and the resumed run would not be bit-identical. The hash covers the JSON part and the
names, dtypes, shapes and values of all tensors. It leaves out strides, timings, the metrics rows, the plugins and the
loss meter.
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

# Keys of a checkpoint that do not affect the training: metrics.jsonl has the rows, result.json has the plugins, "best"
# is the sha256 of a file, and the meter is empty between two epochs.
UNCOUNTED = ("rows", "seconds", "plugins", "meter", "best")


def state_bytes(state: State) -> bytes:
    """Returns the content of the file, without the UNCOUNTED keys."""
    tree, tensors = _packed(state)
    strides = {name: list(tensor.stride()) for name, tensor in tensors.items() if tensor.stride() != _usual(tensor)}
    rows = {name: tensor.contiguous().clone() for name, tensor in tensors.items()}  # safetensors rejects shared memory
    return safetensors_bytes(rows, metadata={"state": _text(tree), "strides": _text(strides)})


def read_state(path: Path) -> State:
    """Reads a file of ``state_bytes``; tensors are on the CPU. Raises UserError if the file is missing, damaged or
    of another kind."""
    try:
        with safe_open(path, framework="pt") as file:
            known = {key: json.loads(text) for key, text in (file.metadata() or {}).items()}
            refuse_strange_values(known)
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
            tensors |= {name: _laid_out(tensors[name], strides) for name, strides in known["strides"].items()}
            state = _unpacked(known["state"], tensors)
    except Exception as error:  # from damaged or foreign content
        raise UserError(f"cannot read the state {path}: {' '.join(str(error).split())[:150]}") from None
    if not isinstance(state, dict):
        raise UserError(f"{path} does not contain the state of a run")
    return state


def state_hash(state: State) -> str:
    """Returns the sha256 of names, dtypes, shapes and bytes of the tensors, and of the other values as JSON."""
    tree, tensors = _packed(state)
    digest = hashlib.sha256(_text(tree).encode())
    for name in sorted(tensors):
        tensor = tensors[name]
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}\n".encode())
        digest.update(tensor.contiguous().reshape(-1).view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()


def _packed(state: State) -> tuple[Any, dict[str, Tensor]]:
    """Returns the state as JSON that refers to tensors by name, and the tensors by name."""
    tensors: dict[str, Tensor] = {}

    def pack(value: Any, name: str) -> Any:
        if isinstance(value, Tensor):
            tensors[name] = value.detach().cpu()
            return {"tensor": name}
        if isinstance(value, dict):  # as pairs: JSON would convert an optimiser's integer keys to strings
            return {"items": [[key, pack(item, f"{name}/{key}")] for key, item in value.items()]}
        if isinstance(value, list | tuple):
            return {"list": [pack(item, f"{name}/{index}") for index, item in enumerate(value)]}
        return value

    tree = {key: pack(value, key) for key, value in state.items() if key not in UNCOUNTED}
    return tree, tensors


def _usual(tensor: Tensor) -> tuple[int, ...]:
    """Returns the strides of a contiguous tensor of this shape."""
    return torch.empty(tensor.shape, device="meta").stride()


def _laid_out(tensor: Tensor, strides: list[int]) -> Tensor:
    """Returns the tensor with these strides. Raises ValueError if they leave gaps, because a file could request any
    amount of memory with them."""
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
    """Returns a safetensors file with the keys of its header sorted. The library writes metadata in an order that
    changes between processes, so equal weights would have different checksums. Offsets in the header count from its
    end."""
    size = int.from_bytes(data[:8], "little")
    header = json.dumps(json.loads(data[8 : 8 + size]), sort_keys=True, separators=(",", ":")).encode()
    header += b" " * (-len(header) % 8)  # keeps the tensors aligned
    return len(header).to_bytes(8, "little") + header + data[8 + size :]


def is_whole(path: Path) -> bool:
    """Returns True if a safetensors file has the length that its header gives."""
    try:
        with safe_open(path, framework="pt"):
            return True
    except (SafetensorError, OSError):
        return False
