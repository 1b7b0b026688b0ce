"""A weights file as tensors by name. Nothing that it holds is executed."""

import pickle
import re
import warnings
import zipfile
from collections import OrderedDict
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from sskd.errors import UserError

SAVE_STATE = "save its state dict: torch.save(model.state_dict(), 'weights.pth')"
TORCH_ZIP, TORCH_OLD = b"PK", b"\x80\x02\x8a\nl\xfc\x9cF\xf9 j\xa8P\x19"  # how torch.save's two formats begin

# what else people have in place of weights, by how the file begins
OTHERS = (
    (rb"version https://git-lfs\.github\.com/", "a Git LFS pointer, no weights: `git lfs pull` gets the file itself"),
    (rb"\s*(\xef\xbb\xbf)?<", "a web page (HTML or XML), no weights: download the file again, from its direct address"),
    (rb"\x93NUMPY", "a NumPy array (.npy), no weights of PyTorch"),
    (rb"\x89HDF", "an HDF5 file, as Keras saves weights, and not PyTorch's"),
    (rb"GGUF", "a GGUF file, and not PyTorch's"),
    (rb"\x1f\x8b|BZh|\xfd7zXZ|\x28\xb5\x2f\xfd|7z\xbc|Rar!|.{257}ustar", "an archive: unpack it, name a file in it"),
    (rb"\x80", f"a pickle that torch.save has not written, and is not loaded: where it was made, {SAVE_STATE}"),
    (rb"\s*[{\[]", "a text file (JSON), no weights"),
    (rb"[\t\n\r\x20-\x7e]+\Z", "a text file, no weights"),
)  # fmt: skip

# classes whose objects training scripts put beside the weights, by module
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
    "numpy": "dtype ndarray bool bool_ float16 float32 float64 int8 int16 int32 int64 uint8 uint16 uint32 uint64 str_",
    "numpy._core.multiarray": "scalar _reconstruct",
    "numpy.core.multiarray": "scalar _reconstruct",
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
    """Stands for an object that is no tensor: it takes whatever the pickle gives it, and keeps nothing."""

    def __new__(cls, *given: Any, **named: Any) -> Any:
        return super().__new__(cls)

    def __init__(self, *given: Any, **named: Any) -> None:
        pass

    def __setstate__(self, state: Any) -> None:
        pass


class _UnreadMapping:
    """The same for a kind of dict: torch fills only a dict of its own list."""

    def __new__(cls, *given: Any, **named: Any) -> Any:
        return OrderedDict()


def _stand_ins() -> list[Any]:
    return [
        type(name, (base,), {"__module__": module})
        for base, table in ((_Unread, VALUES), (_UnreadMapping, MAPPINGS))
        for module, names in table.items()
        for name in names.split()
    ]


STAND_INS = _stand_ins()


def read_tensors(path: Path) -> dict[str, Tensor]:
    """All tensors of a weights file, by the names that lead to them: {"net": {"fc.bias": tensor}} has "net.fc.bias".
    UserError says what the file is instead."""
    data = _load(path)
    found: dict[str, Tensor] = {}
    _collect(data, "", found)
    if not found:
        raise UserError(f"{path} holds no state dict (tensors by name): it holds {_described(data)}")
    return found


def _collect(data: Any, prefix: str, found: dict[str, Tensor], depth: int = 0) -> None:
    """Of nested dicts whose keys are names. An optimiser's state has numbers as keys."""
    if not isinstance(data, dict) or not all(isinstance(key, str) for key in data) or depth > 10:
        return
    for key, value in data.items():
        if isinstance(value, Tensor):
            found.setdefault(prefix + key, value)
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
        raise UserError(f"{path} is empty (0 bytes): the download or the copy has failed")
    if head[8:9] == b"{":  # after the header's length
        return _load_safetensors(path)
    if head.startswith(TORCH_ZIP):
        _check_zip(path)
    elif not head.startswith(TORCH_OLD):
        for start, what in OTHERS:
            if re.match(start, head, re.DOTALL):
                raise UserError(f"{path} is {what}")
        raise UserError(f"{path} is damaged, or is no weights file: neither torch.save nor safetensors has written it")
    return _load_pickle(path)


def _load_safetensors(path: Path) -> Any:
    try:
        return load_file(path)
    except (SafetensorError, OSError):
        raise UserError(f"{path} is damaged or cut off, or is no safetensors file") from None


def _check_zip(path: Path) -> None:
    """UserError where a zip is none that torch.save has written."""
    try:
        with zipfile.ZipFile(path) as archive:
            names = archive.namelist()
    except (zipfile.BadZipFile, OSError, ValueError, NotImplementedError):
        raise UserError(f"{path} is damaged or cut off: it begins as a zip file, and does not end as one") from None
    within = {name.partition("/")[2] for name in names}
    if "constants.pkl" in within or any(name.startswith("code/") for name in within):
        raise UserError(
            f"{path} is a TorchScript program, which is not loaded, as loading executes it: "
            "torch.save(torch.jit.load(FILE).state_dict(), 'weights.pth') saves its weights"
        )
    if "data.pkl" in within:
        return
    if names and all(name.endswith(".npy") for name in names):
        raise UserError(f"{path} is a NumPy archive (.npz), no weights of PyTorch")
    shown = ", ".join(names[:3]) + (", ..." if len(names) > 3 else "")
    raise UserError(f"{path} is a zip file of something else ({shown or 'nothing'}): unpack it, and name the weights")


def _load_pickle(path: Path) -> Any:
    try:
        with path.open("rb") as file, torch.serialization.safe_globals(STAND_INS), warnings.catch_warnings():
            warnings.simplefilter("ignore")  # on pickle protocols, and kinds of storage that will be removed
            return torch.load(file, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        named = re.search(r"GLOBAL ([\w.]+)", str(error))
        holds = f"holds an object of '{named[1].rstrip('.')}'" if named else "is damaged, or holds objects"
        raise UserError(
            f"{path} {holds}, which is not loaded, as loading it could execute code: where it was made, {SAVE_STATE}"
        ) from None
    except OSError as error:
        raise UserError(f"cannot read {path}: {error.strerror or 'its disk fails'}") from None
    except Exception:  # a damaged pickle may raise anything
        raise UserError(f"{path} is damaged or cut off: torch cannot read it") from None
