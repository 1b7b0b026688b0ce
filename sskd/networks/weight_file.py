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

# classes of objects that training scripts save together with weights, by module
VALUES = {
    "argparse": "Namespace",
    "types": "SimpleNamespace",
    "pathlib": "Path PosixPath WindowsPath PurePath PurePosixPath PureWindowsPath",
    "pathlib._local": "Path PosixPath WindowsPath PurePath PurePosixPath PureWindowsPath",  # Python 3.13's
    "datetime": "datetime date time timedelta timezone",
    "decimal": "Decimal",
    "fractions": "Fraction",
    "uuid": "UUID",
    "collections": "deque",
    "builtins": "list dict tuple int float str bool bytes frozenset slice range object",
    "numpy": "bool bool_ float16 float32 float64 int8 int16 int32 int64 uint8 uint16 uint32 uint64 str_",
    "numpy._core.multiarray": "scalar",
    "numpy.core.multiarray": "scalar",
    "pytorch_lightning.callbacks.model_checkpoint": "ModelCheckpoint",
    "pytorch_lightning.callbacks.early_stopping": "EarlyStopping",
}
MAPPINGS = {
    "collections": "defaultdict",
    "easydict": "EasyDict",
    "munch": "Munch",
    "addict.addict": "Dict",
    "yacs.config": "CfgNode",
    "pytorch_lightning.utilities.parsing": "AttributeDict",
    "lightning_fabric.utilities.data": "AttributeDict",
    "lightning.fabric.utilities.data": "AttributeDict",
    "lightning.pytorch.utilities.parsing": "AttributeDict",
}


class _Unread:
    """Placeholder for an object that is not a tensor: accepts any arguments and stores nothing."""

    def __new__(cls, *given: Any, **named: Any) -> Any:
        return super().__new__(cls)

    def __init__(self, *given: Any, **named: Any) -> None:
        pass

    def __setstate__(self, state: Any) -> None:
        pass


class _UnreadMapping:
    """Placeholder for a subclass of dict. It becomes an OrderedDict, because torch.load only fills known types of
    dict."""

    def __new__(cls, *given: Any, **named: Any) -> Any:
        return OrderedDict()


def _placeholders() -> list[Any]:
    return [
        type(name, (base,), {"__module__": module})
        for base, table in ((_Unread, VALUES), (_UnreadMapping, MAPPINGS))
        for module, names in table.items()
        for name in names.split()
    ]


NUMBERS = "?bBhHiIlLqQefd"  # numpy's codes of the numbers that torch has too


def _array_parts() -> list[Any]:
    """Returns what a pickled array consists of: numpy's function that makes one, under its names of numpy 1 and 2, and
    the types of arrays and of their numbers."""
    make = np.empty(0).__reduce__()[0]
    makes = [(make, f"numpy.{core}.multiarray._reconstruct") for core in ("_core", "core")]
    return [*makes, np.ndarray, np.dtype, *{type(np.dtype(code)) for code in NUMBERS + "OUS"}]


READABLE = _placeholders() + _array_parts()


def read_tensors(path: Path) -> dict[str, Tensor]:
    """Returns all tensors of a weights file under their joined keys: {"net": {"fc.bias": tensor}} gives "net.fc.bias".
    Arrays of NumPy become tensors. Raises UserError if the file holds no tensors, with its actual content."""
    data = _load(path)
    found: dict[str, Tensor] = {}
    _collect(data, "", found)
    if not found:
        raise UserError(f"{path} holds no state dict (tensors by name): it holds {_described(data)}")
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
    if not isinstance(data, dict):
        return f"a {type(data).__name__}"
    if not data:
        return "an empty dict"
    shown = ", ".join(f"{key!r} ({_kind(value)})"[:60] for key, value in list(data.items())[:5])
    return f"a dict of {shown}" + (", ..." if len(data) > 5 else "")


def _kind(value: Any) -> str:
    kind = type(value)
    return f"{kind.__module__}.{kind.__name__}" if isinstance(value, _Unread) else kind.__name__


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
    if names and all(name.endswith(".npy") for name in names):
        raise UserError(f"{path} is a NumPy archive (.npz), not weights of PyTorch")
    shown = ", ".join(names[:3]) + (", ..." if len(names) > 3 else "")
    raise UserError(
        f"{path} is a zip file of other files ({shown or 'nothing'}): unpack it and give the path of the weights"
    )


def _load_pickle(path: Path) -> Any:
    try:
        with path.open("rb") as file, torch.serialization.safe_globals(READABLE), warnings.catch_warnings():
            warnings.simplefilter("ignore")  # about pickle protocols and deprecated storage types
            return torch.load(file, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        named = re.search(r"GLOBAL ([\w.]+)", str(error))
        holds = f"holds an object of '{named[1].rstrip('.')}'" if named else "is damaged, or holds objects"
        raise UserError(
            f"{path} {holds}, which is not loaded, because loading could execute code. Where it was made, {SAVE_STATE}"
        ) from None
    except OSError as error:
        raise UserError(f"cannot read {path}: {error.strerror or 'its disk fails'}") from None
    except Exception:  # a damaged pickle may raise any exception
        raise UserError(f"{path} is damaged or truncated: torch cannot read it") from None
