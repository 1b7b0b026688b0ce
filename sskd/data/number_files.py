"""Reads lists of whole numbers from common file formats. Nothing in such a file is executed."""

import functools
import hashlib
import io
import json
import pickle
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from sskd.errors import UserError


def read_numbers(file: Path, content: bytes, key: str | None, usual: Sequence[str]) -> np.ndarray:
    """Returns the numbers of a file, (n,) int64, or (n,) bool for a mask.

    Supported are .npy, .npz, .txt and .csv (one number per line), .json and .pt or .pth. ``key``: name of the list, if
    the file holds several; None uses the first of the ``usual`` names, or the only list. Raises UserError with the
    problem.
    """
    lists = _lists(file, content)
    if key is None:
        key = next(iter(lists)) if len(lists) == 1 else next((name for name in usual if name in lists), None)
    if key is None:
        raise UserError(f"{file} holds {', '.join(lists)}: choose one with {{file: {file}, key: {next(iter(lists))}}}")
    if key not in lists:
        raise UserError(f"{file} has no '{key}'; it holds {', '.join(name for name in lists if name) or 'one list'}")
    try:
        return _whole_numbers(lists[key])
    except (ValueError, TypeError, RuntimeError) as error:  # also of NumPy, for lists of unequal lengths
        raise UserError(f"{file}{key and f', {key}'}: {' '.join(str(error).split())[:150]}") from None


def named_numbers(file: Path, content: bytes, name: str) -> np.ndarray | None:
    """Returns the list ``name`` as ``read_numbers`` does, or None if the file has no such list."""
    return read_numbers(file, content, name, ()) if name in _lists(file, content) else None


def _whole_numbers(values: Any) -> np.ndarray:
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
    if array.dtype.kind not in "iufUS":
        raise ValueError(f"expected whole numbers, found {array.dtype}")
    floats = array.astype(np.float64)
    strange = np.flatnonzero(~(np.isfinite(floats) & (floats == np.floor(floats)) & (np.abs(floats) < 2**53)))
    if len(strange):
        raise ValueError(f"value {strange[0] + 1} is {array[strange[0]]}, which is not a whole number")
    return floats.astype(np.int64)


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
    if found and all(str(name).isdigit() for name in found):  # a mapping from the index of an image to its number
        numbers = {int(name): value for name, value in found.items()}
        if sorted(numbers) != list(range(len(found))):
            raise UserError(f"{file}: its {len(found)} keys must be 0 to {len(found) - 1}")
        return {"": [numbers[index] for index in range(len(numbers))]}
    kinds = (list, tuple, np.ndarray, torch.Tensor)
    lists = {str(name): value for name, value in found.items() if isinstance(value, kinds)}
    if not lists:
        raise UserError(f"{file} does not contain a list of numbers")
    return lists


def _from_numpy(content: bytes) -> Any:
    found = np.load(io.BytesIO(content), allow_pickle=False)
    return found if isinstance(found, np.ndarray) else dict(found)


def _from_text(content: bytes) -> np.ndarray:
    """Parses one number per line, or all numbers on one line, separated by commas or spaces."""
    text = content.decode("utf-8-sig").strip().strip("[]()").replace(",", " ")
    return np.loadtxt(io.StringIO(text), ndmin=1)


def array_types() -> list[Any]:
    """Returns what torch.load needs for NumPy's arrays: the function that makes one and the one that makes a number,
    under their names of NumPy 1 and 2, and the types of arrays and of their elements."""
    makers: Any = (np.empty(0).__reduce__()[0], np.float64(0).__reduce__()[0])
    named = [(make, f"numpy.{core}.multiarray.{make.__name__}") for make in makers for core in ("_core", "core")]
    return [*named, np.ndarray, np.dtype, *{type(np.dtype(code)) for code in "?bBhHiIlLqQefdOUS"}]


def _from_torch(content: bytes) -> Any:
    """Reads a file of torch.save that only contains tensors, NumPy arrays and plain values."""
    try:
        with torch.serialization.safe_globals(array_types()):
            return torch.load(io.BytesIO(content), map_location="cpu", weights_only=True)
    except pickle.UnpicklingError:  # torch's message advises to execute the file
        raise ValueError("it is truncated, or contains more than tensors, arrays and numbers") from None


READERS: dict[str, Callable[[bytes], Any]] = {
    ".npy": _from_numpy,
    ".npz": _from_numpy,
    ".txt": _from_text,
    ".csv": _from_text,
    ".json": json.loads,
    ".pt": _from_torch,
    ".pth": _from_torch,
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
