"""Writing and reading files such that a crash, a full disk or a damaged file costs nothing that is there."""

import fcntl
import json
import os
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO

from sskd.errors import UserError


def write_atomically(path: Path, write: Callable[[BinaryIO], Any]) -> None:
    """Writes a temporary file beside ``path``, syncs it to the disk, and renames it. UserError on a full disk etc."""
    partial = path.with_name(f"{path.name}.{os.getpid()}.partial")
    with plain_os_errors("write", path):
        try:
            with partial.open("wb") as file:
                write(file)
                file.flush()
                os.fsync(file.fileno())
            os.replace(partial, path)
        finally:
            partial.unlink(missing_ok=True)


def append_line(path: Path, line: str) -> None:
    """Adds a line to a file. Where the disk is full, OSError, and nothing is left of the line's beginning."""
    with path.open("ab", buffering=0) as file:
        before, data = file.seek(0, os.SEEK_END), f"{line}\n".encode(errors="surrogateescape")
        try:
            while data:
                data = data[file.write(data) :]
        except OSError:
            file.truncate(before)
            raise


def check_writable(folder: Path) -> None:
    """Makes the folder and tries to write in it. UserError, before any work is done, where that is not possible."""
    with plain_os_errors("write results in", folder):
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder) as file:
            file.write(b"a sector of a disk" * 32)


def json_bytes(data: Any) -> bytes:
    """The content of a JSON file with this data."""
    return (json.dumps(data, indent=1) + "\n").encode()


def write_json(path: Path, data: Any) -> None:
    """Writes JSON atomically. UserError where the file cannot be written."""
    write_atomically(path, lambda file: file.write(json_bytes(data)))


def read_json(path: Path) -> Any:
    """The data of a JSON file of a run. UserError where it is missing or damaged."""
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:  # ValueError: not JSON, or not UTF-8
        raise UserError(f"cannot read {path}: {one_line(error)}; delete it to have the run done again") from None


@contextmanager
def plain_os_errors(verb: str, path: Path) -> Iterator[None]:
    """Turns what the system refuses (permission, full disk, ...) into one line for a person.

    torch.save reports a full disk as a RuntimeError that has the system's error as its context, or none at all.
    """
    try:
        yield
    except OSError as error:
        raise UserError(f"cannot {verb} {path}: {error.strerror or error}") from None
    except RuntimeError as error:
        if "file write failed" in str(error) or "unexpected pos" in str(error):
            raise UserError(f"cannot {verb} {path}: the disk is full or cannot be written") from None
        raise


def one_line(error: Exception) -> str:
    """What the error says, at most 120 characters of it; its kind where it says nothing."""
    text = " ".join(str(error).split())
    return (text[:120] + "...") if len(text) > 120 else text or type(error).__name__


def lock_holder(lock: Path) -> str:
    """Which other process holds a run's lock file at this moment; "" if none does, or if it cannot be told."""
    try:
        file = lock.open("r+", encoding="utf-8")
    except OSError:
        return ""
    with file:
        try:
            fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except (BlockingIOError, PermissionError):
            return file.read().strip() or "another process"
        except OSError:  # no locks here
            pass
    return ""
