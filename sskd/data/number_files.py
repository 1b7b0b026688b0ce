"""Reads lists of whole numbers from common file formats. Nothing in such a file is executed."""

import functools
import hashlib
import io
import json
import math
import pickle
import re
import zipfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from sskd.errors import UserError

MOST_COMPRESSED = 1100  # upper bound of a compression factor; deflate reaches about 1,030


def read_numbers(file: Path, content: bytes, key: str | None, usual: Sequence[str]) -> np.ndarray:
    """Returns the numbers of a file, (n,) int64, or (n,) bool for a mask.

    Supported are .npy, .npz, .txt and .csv (one number per line), .json and .pt or .pth. ``key``: name of the list, if
    the file holds several; None uses the first of the ``usual`` names, or the only list. Raises UserError with the
    problem.
    """
    lists = _lists(file, content)
    if key is None and len(lists) > 1:
        key = next((name for name in usual if name in lists), None)
        if key is None:
            raise UserError(
                f"{file} holds {', '.join(lists)}: choose one with {{file: {file}, key: {next(iter(lists))}}}"
            )
    if key is None:
        key = next(iter(lists))
    if key not in lists:
        raise UserError(f"{file} has no '{key}'; it holds {', '.join(name for name in lists if name) or 'one list'}")
    where = f"{file}, {key}" if key else str(file)
    try:
        return whole_numbers(lists[key])
    except ValueError as error:
        raise UserError(f"{where}: {error}") from None


def named_numbers(file: Path, content: bytes, name: str) -> np.ndarray | None:
    """Returns the list ``name`` as ``read_numbers`` does, or None if the file has no such list."""
    lists = _lists(file, content)
    return read_numbers(file, content, name, ()) if name in lists else None


def whole_numbers(values: Any) -> np.ndarray:
    """Converts values to (n,) int64, or keeps (n,) bool. Accepts (n,), (n, 1) and (1, n), whole numbers stored as
    floats, and numbers stored as text. Raises ValueError with what was found instead."""
    array = np.asarray(values)
    if array.ndim == 2 and 1 in array.shape:
        array = array.reshape(-1)
    if array.ndim != 1:
        raise ValueError(f"expected one list of numbers, found an array of shape {array.shape}")
    if not array.size:
        raise ValueError("it is empty")
    if array.dtype == bool or array.dtype == np.int64:
        return array
    if array.dtype.kind in "US":
        wrong = next(
            (number for number, text in enumerate(array.tolist(), 1) if not _NUMBER.fullmatch(_text(text))), None
        )
        if wrong is not None:
            raise ValueError(f"value {wrong} is {_text(array[wrong - 1])[:40]!r}, which is not a whole number")
        array = array.astype(np.float64)
    if array.dtype.kind not in "iuf":
        raise ValueError(f"expected whole numbers, found {array.dtype}")
    strange = ~(np.isfinite(array) & (array == np.floor(array)) & (np.abs(array.astype(np.float64)) < 2**53))
    if strange.any():
        index = int(np.flatnonzero(strange)[0])
        raise ValueError(f"value {index + 1} is {array[index]}, which is not a whole number")
    return array.astype(np.int64)


_NUMBER = re.compile(r"\s*[-+]?\d+(\.\d*)?([eE][-+]?\d+)?\s*")


def _text(value: Any) -> str:
    return value.decode("latin-1") if isinstance(value, bytes) else str(value)


@functools.lru_cache(maxsize=4)
def _lists(file: Path, content: bytes) -> dict[str, Any]:
    """Returns the lists of the file by name; "" is the name of a single list without a name."""
    reader = READERS.get(file.suffix.lower())
    if reader is None:
        advice = (
            "a pickle can execute code: save the numbers with numpy.save" if "pk" in file.suffix else "not supported"
        )
        raise UserError(f"{file}: {file.suffix or 'no file extension'}: {advice} (supported: {', '.join(READERS)})")
    try:
        found = reader(content)
    except Exception as error:  # a damaged file may raise anything, MemoryError and RecursionError too
        reason = " ".join(str(error).split())[:150] or type(error).__name__
        raise UserError(f"{file} cannot be read as numbers: {reason}") from None
    if not isinstance(found, dict):
        return {"": found}
    if found and all(
        isinstance(name, int) or str(name).isdigit() for name in found
    ):  # a mapping from the index of an image to its number
        return {"": _by_position({int(name): value for name, value in found.items()}, file)}
    lists = {str(name): value for name, value in found.items() if isinstance(value, list | tuple | np.ndarray)}
    if not lists:
        raise UserError(f"{file} does not contain a list of numbers")
    return lists


def _by_position(numbers: dict[int, Any], file: Path) -> list[Any]:
    if sorted(numbers) != list(range(len(numbers))):
        raise UserError(f"{file}: its {len(numbers)} keys must be 0 to {len(numbers) - 1}")
    return [numbers[position] for position in range(len(numbers))]


def _npy(content: bytes) -> np.ndarray:
    return _array(io.BytesIO(content), len(content))


def _npz(content: bytes) -> dict[str, np.ndarray]:
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        names = [name.removesuffix(".npy") for name in archive.namelist() if name.endswith(".npy")]
        return {name: read_array(archive, name) for name in names}


def read_array(archive: zipfile.ZipFile, key: str) -> np.ndarray:
    """Returns an array of an .npz archive. Raises ValueError if its header claims more data than the file can hold,
    for which numpy would allocate memory before reading."""
    entry = archive.getinfo(f"{key}.npy")
    with archive.open(entry) as stream:
        return _array(stream, min(entry.file_size, MOST_COMPRESSED * entry.compress_size), key)


def _array(stream: Any, room: int, key: str = "it") -> np.ndarray:
    """Returns the array of an .npy stream. Raises ValueError if it is larger than ``room`` bytes or holds Python
    objects."""
    version = np.lib.format.read_magic(stream)
    read = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
    shape, _, kind = read(stream)
    claimed = math.prod(shape) * kind.itemsize
    if kind.hasobject:
        raise ValueError(f"{key} holds Python objects")
    if claimed > room:
        raise ValueError(f"{key} claims {claimed:,} bytes, which the file does not hold")
    stream.seek(0)
    return np.lib.format.read_array(stream, allow_pickle=False)


def _written(content: bytes) -> list[str]:
    """Parses text: one number per line, or all numbers on one line."""
    lines = [line.partition("#")[0].strip() for line in content.decode("utf-8-sig").splitlines()]
    lines = [line for line in lines if line]
    if len(lines) == 1:
        return lines[0].strip("[]()").replace(",", " ").split()
    wrong = next((line for line in lines if len(line.replace(",", " ").split()) != 1), None)
    if wrong is not None:
        raise ValueError(f"expected one number per line, found {wrong[:40]!r}")
    return [line.strip(", \t") for line in lines]


def _tensors(content: bytes) -> Any:
    """Reads a file of torch.save that only contains tensors, numpy arrays and plain values."""
    import torch

    core = getattr(np, "_core", None) or np.core  # numpy 1 only has np.core
    array = [core.multiarray._reconstruct, core.multiarray.scalar, np.ndarray, np.dtype]
    kinds = [type(np.dtype(kind)) for kind in ("i1", "i2", "i4", "i8", "u1", "u2", "u4", "u8", "f4", "f8", "?")]
    renamed: list[Any] = [(made, f"numpy.{other}.multiarray.{made.__name__}") for made in array[:2] for other in CORES]
    with torch.serialization.safe_globals([*array, *kinds, *renamed]):
        try:
            found = torch.load(io.BytesIO(content), map_location="cpu", weights_only=True)
        except pickle.UnpicklingError:
            raise ValueError("it is truncated, or contains more than tensors, arrays and numbers") from None

    def plain(value: Any) -> Any:
        return value.numpy() if isinstance(value, torch.Tensor) else value

    return {name: plain(value) for name, value in found.items()} if isinstance(found, dict) else plain(found)


CORES = ("core", "_core")  # modules of numpy 1 and numpy 2 whose functions unpickle an array
READERS: dict[str, Callable[[bytes], Any]] = {
    ".npy": _npy,
    ".npz": _npz,
    ".txt": _written,
    ".csv": _written,
    ".json": json.loads,
    ".pt": _tensors,
    ".pth": _tensors,
}


@functools.lru_cache(maxsize=8)
def read_hashed(file: Path, sha256: str | None, what: str) -> bytes:
    """Returns the content of a file. Raises UserError if it cannot be read, or if its sha256 differs from
    ``sha256``."""
    try:
        content = file.read_bytes()
    except OSError as error:
        raise UserError(f"{what}: cannot read {file}: {error.strerror or error}") from None
    found = hashlib.sha256(content).hexdigest()
    if sha256 and found != sha256:
        raise UserError(
            f"{what}: the sha256 of {file} is {found}, expected {sha256}: correct it, or use the right file"
        )
    return content
