"""Reads the tensors of a weights file. No code from the file is executed."""

import pickle
import re
import warnings
import zipfile
from collections import OrderedDict
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from sskd.data.number_files import array_types
from sskd.errors import UserError

SAVE_STATE = "save its state dict: torch.save(model.state_dict(), 'weights.pth')"
TORCH_ZIP, TORCH_OLD = b"PK", b"\x80\x02\x8a\nl\xfc\x9cF\xf9 j\xa8P\x19"  # first bytes of torch.save's two formats

# other files, by their first bytes
OTHERS = (
    (rb"version https://git-lfs\.github\.com/", "a Git LFS pointer, not weights: run `git lfs pull` to get the file"),
    (rb"\s*(\xef\xbb\xbf)?<", "a web page (HTML or XML), not weights: download the file from its direct address"),
    (rb"\x93NUMPY", "a NumPy array (.npy), not weights of PyTorch"),
    (rb"\x89HDF", "an HDF5 file (used by Keras), not a file of PyTorch"),
    (rb"GGUF", "a GGUF file, not a file of PyTorch"),
    (rb"\x1f\x8b|BZh|\xfd7zXZ|\x28\xb5\x2f\xfd|7z\xbc|Rar!|.{257}ustar", "an archive: unpack it and name a file in it"),
    (rb"\x80", f"a pickle that torch.save has not written; it is not loaded. Where it was made, {SAVE_STATE}"),
    (rb"\s*[{\[]", "a text file (JSON), not weights"),
    (rb"[\t\n\r\x20-\x7e]+\Z", "a text file, not weights"),
)  # fmt: skip

NUMBERS = "?bBhHiIlLqQefd"  # NumPy's codes of the numbers that torch has too


def read_tensors(path: Path) -> dict[str, Tensor]:
    """Returns all tensors of a weights file under their joined keys: {"net": {"fc.bias": tensor}} gives "net.fc.bias".
    Arrays of NumPy become tensors. Raises UserError if the file holds no tensors, with its actual content."""
    data = _load(path)
    found: dict[str, Tensor] = {}
    _collect(data, "", found)
    if not found:
        raise UserError(f"{path} holds no tensors by name, but {_described(data)}. Where it was made, {SAVE_STATE}")
    return found


def _collect(data: Any, prefix: str, found: dict[str, Tensor], depth: int = 0) -> None:
    """Collects tensors from nested dicts with string keys. (The keys of an optimiser's state are numbers.)"""
    if not isinstance(data, dict) or not all(isinstance(key, str) for key in data) or depth > 10:
        return
    for key, value in data.items():
        if isinstance(value, Tensor):
            found.setdefault(prefix + key, value)
        elif isinstance(value, np.ndarray) and value.dtype.char in NUMBERS:
            found.setdefault(prefix + key, torch.from_numpy(value.astype(value.dtype.newbyteorder("="))))
        else:
            _collect(value, f"{prefix}{key}.", found, depth + 1)


def _described(data: Any) -> str:
    if not isinstance(data, dict) or not data:
        return f"a {_kind(data)}"
    shown = ", ".join(f"{key!r} ({_kind(value)})"[:60] for key, value in list(data.items())[:5])
    return f"a dict of {shown}" + (", ..." if len(data) > 5 else "")


CLASS = "class in the file"  # attribute of a placeholder


def _placeholder(name: str) -> type:
    """Returns a class in place of one that torch.load does not know. Its instances are empty dicts, because torch.load
    fills no other objects: the items of an EasyDict are read, the attributes of a Namespace are not."""

    def make(*given: Any, **named: Any) -> Any:
        made: OrderedDict[Any, Any] = OrderedDict()
        vars(made)[CLASS] = name
        return made

    return type(name, (), {"__new__": make})


def _kind(value: Any) -> str:
    return getattr(value, CLASS, type(value).__name__)


def _load(path: Path) -> Any:
    try:
        with path.open("rb") as file:
            head = file.read(1024)
    except OSError as error:
        raise UserError(f"cannot read {path}: {error.strerror}") from None
    if not head:
        raise UserError(f"{path} is empty (0 bytes): download or copy it again")
    if head[8:9] == b"{":  # the header of safetensors, after its length
        return _load_safetensors(path)
    if head.startswith(TORCH_ZIP):
        _check_zip(path)
    elif not head.startswith(TORCH_OLD):
        for start, what in OTHERS:
            if re.match(start, head, re.DOTALL):
                raise UserError(f"{path} is {what}")
        raise UserError(
            f"{path} is damaged or not a weights file: it was written neither by torch.save nor by safetensors"
        )
    return _load_pickle(path)


def _load_safetensors(path: Path) -> Any:
    try:
        return load_file(path)
    except (SafetensorError, OSError):
        raise UserError(f"{path} is damaged, truncated, or not a safetensors file") from None


def _check_zip(path: Path) -> None:
    """Raises UserError if the zip file was not written by torch.save."""
    try:
        with zipfile.ZipFile(path) as archive:
            names = archive.namelist()
    except (zipfile.BadZipFile, OSError, ValueError, NotImplementedError):
        raise UserError(f"{path} is damaged or truncated: it begins as a zip file but does not end as one") from None
    within = {name.partition("/")[2] for name in names}
    if "constants.pkl" in within or any(name.startswith("code/") for name in within):
        raise UserError(
            f"{path} is a TorchScript program; it is not loaded, because loading would execute it. Save its weights: "
            "torch.save(torch.jit.load(FILE).state_dict(), 'weights.pth')"
        )
    if "data.pkl" in within:
        return
    shown = ", ".join(names[:3]) + (", ..." if len(names) > 3 else "")
    raise UserError(
        f"{path} is a zip file of other files ({shown or 'nothing'}): unpack it and give the path of the weights"
    )


def _load_pickle(path: Path) -> Any:
    placeholders: dict[str, type] = {}
    while True:
        known = [*array_types(), *((made, name) for name, made in placeholders.items())]
        try:
            with path.open("rb") as file, torch.serialization.safe_globals(known), warnings.catch_warnings():
                warnings.simplefilter("ignore")  # about pickle protocols and deprecated storage types
                return torch.load(file, map_location="cpu", weights_only=True)
        except pickle.UnpicklingError as error:
            named = re.search(r"GLOBAL (\S+) was not an allowed", str(error))
            name = named[1] if named and "." in named[1] else f"builtins.{named[1]}" if named else ""
            if not name or name in placeholders:
                raise UserError(
                    f"{path} is damaged, or holds objects that are not loaded, because loading could execute code. "
                    f"Where it was made, {SAVE_STATE}"
                ) from None
            placeholders[name] = _placeholder(name)
        except OSError as error:
            raise UserError(f"cannot read {path}: {error.strerror or 'its disk fails'}") from None
        except Exception:  # a damaged pickle may raise any exception
            raise UserError(f"{path} is damaged or truncated: torch cannot read it") from None
