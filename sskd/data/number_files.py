"""Lists of whole numbers from the files that people keep them in. Nothing that such a file holds is executed."""

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

MOST_COMPRESSED = 1100  # deflate makes data at most about 1,030 times smaller


def read_numbers(file: Path, content: bytes, key: str | None, usual: Sequence[str]) -> np.ndarray:
    """The numbers of a file, (n,) int64, or (n,) bool of a mask.

    Read are .npy, .npz, .txt and .csv (one number on a line), .json and .pt or .pth. ``key``: of a file that holds
    several lists, which one; None takes the first of the ``usual`` names, or the only list. UserError says what is
    wrong with the file.
    """
    lists = _lists(file, content)
    if key is None and len(lists) > 1:
        key = next((name for name in usual if name in lists), None)
        if key is None:
            raise UserError(
                f"{file} holds {', '.join(lists)}: say which, as {{file: {file}, key: {next(iter(lists))}}}"
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
    """The list of that name, as ``read_numbers`` gives it, or None where the file has none."""
    lists = _lists(file, content)
    return read_numbers(file, content, name, ()) if name in lists else None


def whole_numbers(values: Any) -> np.ndarray:
    """(n,) int64, or (n,) bool. Taken are (n,), (n, 1) and (1, n), whole numbers written as floats, and numbers written
    as text. ValueError says what else was found."""
    array = np.asarray(values)
    if array.ndim == 2 and 1 in array.shape:
        array = array.reshape(-1)
    if array.ndim != 1:
        raise ValueError(f"expected one list of numbers, found an array of shape {array.shape}")
    if not array.size:
        raise ValueError("holds no numbers")
    if array.dtype == bool or array.dtype == np.int64:
        return array
    if array.dtype.kind in "US":
        wrong = next(
            (place for place, text in enumerate(array.tolist(), 1) if not _NUMBER.fullmatch(_text(text))), None
        )
        if wrong is not None:
            raise ValueError(f"number {wrong} is {_text(array[wrong - 1])[:40]!r}, no whole number")
        array = array.astype(np.float64)
    if array.dtype.kind not in "iuf":
        raise ValueError(f"expected whole numbers, found {array.dtype}")
    strange = ~(np.isfinite(array) & (array == np.floor(array)) & (np.abs(array.astype(np.float64)) < 2**53))
    if strange.any():
        place = int(np.flatnonzero(strange)[0])
        raise ValueError(f"number {place + 1} is {array[place]}, no whole number")
    return array.astype(np.int64)


_NUMBER = re.compile(r"\s*[-+]?\d+(\.\d*)?([eE][-+]?\d+)?\s*")


def _text(value: Any) -> str:
    return value.decode("latin-1") if isinstance(value, bytes) else str(value)


@functools.lru_cache(maxsize=4)
def _lists(file: Path, content: bytes) -> dict[str, Any]:
    """What the file holds, by name; "" where it is one list without a name."""
    reader = READERS.get(file.suffix.lower())
    if reader is None:
        advice = (
            "a pickle may execute anything: save the numbers with numpy.save" if "pk" in file.suffix else "not read"
        )
        raise UserError(f"{file}: {file.suffix or 'a file without an ending'}: {advice}; {', '.join(READERS)} are read")
    try:
        found = reader(content)
    except Exception as error:  # a damaged file may raise anything, MemoryError and RecursionError too
        reason = " ".join(str(error).split())[:150] or type(error).__name__
        raise UserError(f"{file} cannot be read as numbers: {reason}") from None
    if not isinstance(found, dict):
        return {"": found}
    if found and all(
        isinstance(name, int) or str(name).isdigit() for name in found
    ):  # from an image's number to its own
        return {"": _by_position({int(name): value for name, value in found.items()}, file)}
    lists = {str(name): value for name, value in found.items() if isinstance(value, list | tuple | np.ndarray)}
    if not lists:
        raise UserError(f"{file} holds no list of numbers")
    return lists


def _by_position(numbers: dict[int, Any], file: Path) -> list[Any]:
    if sorted(numbers) != list(range(len(numbers))):
        raise UserError(f"{file}: its {len(numbers)} keys are not the numbers from 0 to {len(numbers) - 1}")
    return [numbers[position] for position in range(len(numbers))]


def _npy(content: bytes) -> np.ndarray:
    return _array(io.BytesIO(content), len(content))


def _npz(content: bytes) -> dict[str, np.ndarray]:
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        names = [name.removesuffix(".npy") for name in archive.namelist() if name.endswith(".npy")]
        return {name: read_array(archive, name) for name in names}


def read_array(archive: zipfile.ZipFile, key: str) -> np.ndarray:
    """The .npz archive's array of that name. ValueError if its header claims more than the file can hold: numpy would
    take the memory before it reads."""
    entry = archive.getinfo(f"{key}.npy")
    with archive.open(entry) as stream:
        return _array(stream, min(entry.file_size, MOST_COMPRESSED * entry.compress_size), key)


def _array(stream: Any, room: int, key: str = "it") -> np.ndarray:
    """The array of an .npy stream. ValueError where it is larger than ``room`` bytes, or holds Python objects."""
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
    """Text: a number on each line, or all of them on one."""
    lines = [line.partition("#")[0].strip() for line in content.decode("utf-8-sig").splitlines()]
    lines = [line for line in lines if line]
    if len(lines) == 1:
        return lines[0].strip("[]()").replace(",", " ").split()
    wrong = next((line for line in lines if len(line.replace(",", " ").split()) != 1), None)
    if wrong is not None:
        raise ValueError(f"expected one number on a line, found {wrong[:40]!r}")
    return [line.strip(", \t") for line in lines]


def _tensors(content: bytes) -> Any:
    """What torch.save wrote, of tensors, numpy arrays and plain values alone."""
    import torch

    core = getattr(np, "_core", None) or np.core  # numpy 1 has the second alone
    array = [core.multiarray._reconstruct, core.multiarray.scalar, np.ndarray, np.dtype]
    kinds = [type(np.dtype(kind)) for kind in ("i1", "i2", "i4", "i8", "u1", "u2", "u4", "u8", "f4", "f8", "?")]
    renamed: list[Any] = [(made, f"numpy.{other}.multiarray.{made.__name__}") for made in array[:2] for other in CORES]
    with torch.serialization.safe_globals([*array, *kinds, *renamed]):
        try:
            found = torch.load(io.BytesIO(content), map_location="cpu", weights_only=True)
        except pickle.UnpicklingError:
            raise ValueError("it is cut off, or holds other things than tensors, arrays and numbers") from None

    def plain(value: Any) -> Any:
        return value.numpy() if isinstance(value, torch.Tensor) else value

    return {name: plain(value) for name, value in found.items()} if isinstance(found, dict) else plain(found)


CORES = ("core", "_core")  # where numpy 1 and numpy 2 keep what makes an array of a pickle
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
    """A file's content. UserError where it cannot be read, or has another sha256 than the one that is known."""
    try:
        content = file.read_bytes()
    except OSError as error:
        raise UserError(f"{what}: cannot read {file}: {error.strerror or error}") from None
    found = hashlib.sha256(content).hexdigest()
    if sha256 and found != sha256:
        raise UserError(f"{what}: {file} is not the file that is meant: its sha256 is {found}, not {sha256}")
    return content
