"""Writes and reads files so that a crash, a full disk or a damaged file never destroys existing data."""

import fcntl
import json
import os
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from io import FileIO
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

from sskd.errors import UserError
from sskd.runtime.machine import host, user


def write_atomically(path: Path, content: bytes | Callable[[BinaryIO], Any], sync: bool = True) -> None:
    """Writes a temporary file next to ``path``, syncs it to the disk, and renames it. Raises UserError on a full disk
    etc.

    ``content``: the content, or a function that writes it to the open file. ``sync``: False for files that are
    rewritten every few seconds and may be lost in a power failure.
    """
    partial = path.with_name(f"{path.name}.{os.getpid()}.partial")
    with plain_os_errors("write", path):
        try:
            with partial.open("wb") as file:
                if callable(content):
                    content(file)
                else:
                    file.write(content)
                file.flush()
                if sync:
                    os.fsync(file.fileno())
            os.replace(partial, path)
        finally:
            partial.unlink(missing_ok=True)


def append_line(path: Path, line: str) -> None:
    """Appends a line to a file. Raises OSError on a full disk, without leaving a partial line."""
    with path.open("ab", buffering=0) as file:
        before, data = file.seek(0, os.SEEK_END), f"{line}\n".encode(errors="surrogateescape")
        try:
            while data:
                data = data[file.write(data) :]
        except OSError:
            file.truncate(before)
            raise


def check_writable(folder: Path) -> None:
    """Creates the folder and tests that it is writable. Raises UserError otherwise, before any work is done."""
    with plain_os_errors("write results in", folder):
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder) as file:
            file.write(b"a sector of a disk" * 32)


def json_bytes(data: Any) -> bytes:
    """Returns the data as the content of a JSON file."""
    return (json.dumps(data, indent=1) + "\n").encode()


def write_json(path: Path, data: Any, sync: bool = True) -> None:
    """Writes JSON atomically. Raises UserError if the file cannot be written."""
    write_atomically(path, json_bytes(data), sync)


def read_json(path: Path) -> Any:
    """Reads a JSON file of a run. Raises UserError if it is missing or damaged."""
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:  # ValueError: not JSON, or not UTF-8
        raise UserError(f"cannot read {path}: {one_line(error)}; delete it to rerun the run") from None


@contextmanager
def plain_os_errors(verb: str, path: Path) -> Iterator[None]:
    """Converts operating-system errors (permission, full disk, ...) to a UserError of one line.

    torch.save reports a full disk as a RuntimeError, with or without the OSError as its context.
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
    """Returns the message of the error, at most 120 characters, or its type if there is no message."""
    text = " ".join(str(error).split())
    return (text[:120] + "...") if len(text) > 120 else text or type(error).__name__


# --- locks ------------------------------------------------------------------------------------------------------------


class Holder(NamedTuple):
    """The process that holds a lock."""

    pid: int = 0  # 0: unknown
    host: str = ""
    user: str = ""
    job: str = ""  # Slurm job of the process: 17, or 17_3

    def __str__(self) -> str:
        if self.job:
            return f"job {self.job} of {self.user}"
        return f"process {self.pid} of {self.user} on {self.host}" if self.pid else "another process"


class Locked(Exception):
    """Another process holds the lock."""

    def __init__(self, holder: Holder) -> None:
        super().__init__(str(holder))
        self.holder = holder


def this_process() -> Holder:
    """Returns this process as the holder of a lock. In a run with several processes it is the one that started them
    (SSKD_PROCESS)."""
    array, task = os.environ.get("SLURM_ARRAY_JOB_ID"), os.environ.get("SLURM_ARRAY_TASK_ID")
    job = f"{array}_{task}" if array else os.environ.get("SLURM_JOB_ID", "")
    return Holder(int(os.environ.get("SSKD_PROCESS", os.getpid())), host(), user(), job)


@contextmanager
def hold(lock: Path, note: Mapping[str, Any] | None = None, patience: float = 0.3) -> Iterator[None]:
    """Holds a lock file during the block. The file names the holder and contains ``note``.

    The operating system holds the lock, and releases it when the process ends in any way. On a file system without
    locks, the block is entered without a lock. Raises Locked if another process holds the lock for more than
    ``patience`` seconds (read_lock holds it for a moment), and UserError if the file cannot be created.
    """
    file = _locked(lock, time.monotonic() + patience)
    try:
        with suppress(OSError):  # a full disk is reported when the run writes its own files
            file.truncate(0)
            file.write(json.dumps(this_process()._asdict() | dict(note or {})).encode())
        yield
    finally:
        lock.unlink(missing_ok=True)
        file.close()


def _locked(lock: Path, end: float) -> FileIO:
    while True:
        with plain_os_errors("write", lock):
            file = FileIO(os.open(lock, os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o666), "r+")
        try:
            fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except (BlockingIOError, PermissionError):
            with file:
                if time.monotonic() > end:
                    raise Locked(holder_of(_content(file.read()))) from None
            time.sleep(0.05)
            continue
        except OSError:  # the file system has no locks
            return file
        with suppress(OSError):
            if os.path.samestat(os.stat(lock), os.fstat(file.fileno())):
                return file
        file.close()  # the previous holder has just deleted it


def read_lock(lock: Path) -> tuple[bool, dict[str, Any]]:
    """Returns True if another process holds the lock file, and the content of the file; (False, {}) without a file.

    Do not call this in the process that holds the lock: closing the lock file would release that process's own lock
    (POSIX record locks).
    """
    try:
        with lock.open("rb") as file:
            content = _content(file.read())
            try:
                fcntl.lockf(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
            except (BlockingIOError, PermissionError):
                return True, content
            except OSError:  # the file system has no locks
                pass
            return False, content
    except OSError:
        return False, {}


def _content(data: bytes) -> dict[str, Any]:
    try:
        content = json.loads(data)
    except (ValueError, RecursionError):  # being written, a full disk, or an earlier version
        return {}
    return content if isinstance(content, dict) else {}


def holder_of(content: Mapping[str, Any]) -> Holder:
    """Returns the holder named in the content of a lock file, as far as it is valid."""
    pid, names = content.get("pid"), [content.get(name) for name in ("host", "user", "job")]
    if type(pid) is not int or not 0 < pid < 2**31:  # other numbers address process groups
        return Holder()
    return Holder(pid, *(name if isinstance(name, str) else "" for name in names))


def lock_holder(lock: Path) -> Holder | None:
    """Returns the other process that holds a lock file; None if there is none or it cannot be determined."""
    held, content = read_lock(lock)
    return holder_of(content) if held else None
