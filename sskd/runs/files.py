"""Writing and reading files such that a crash, a full disk or a damaged file costs nothing that is there."""

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


def write_atomically(path: Path, write: Callable[[BinaryIO], Any], sync: bool = True) -> None:
    """Writes a temporary file beside ``path``, syncs it to the disk, and renames it. UserError on a full disk etc.

    ``sync``: False for what is written again in seconds, and may be lost with the machine's power.
    """
    partial = path.with_name(f"{path.name}.{os.getpid()}.partial")
    with plain_os_errors("write", path):
        try:
            with partial.open("wb") as file:
                write(file)
                file.flush()
                if sync:
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


def write_json(path: Path, data: Any, sync: bool = True) -> None:
    """Writes JSON atomically. UserError where the file cannot be written."""
    write_atomically(path, lambda file: file.write(json_bytes(data)), sync)


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


# --- locks ------------------------------------------------------------------------------------------------------------


class Holder(NamedTuple):
    """The process that holds a lock."""

    pid: int = 0  # 0: not known
    host: str = ""
    user: str = ""
    job: str = ""  # of Slurm that the process belongs to: 17, or 17_3

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
    """This process as the holder of a lock; of a run's several processes the one that started them, which passes on
    what it is told (SSKD_PROCESS)."""
    array, task = os.environ.get("SLURM_ARRAY_JOB_ID"), os.environ.get("SLURM_ARRAY_TASK_ID")
    job = f"{array}_{task}" if array else os.environ.get("SLURM_JOB_ID", "")
    return Holder(int(os.environ.get("SSKD_PROCESS", os.getpid())), host(), user(), job)


@contextmanager
def hold(lock: Path, note: Mapping[str, Any] | None = None, patience: float = 0.3) -> Iterator[None]:
    """Holds a lock file until the end of the block. The file says who holds it, and ``note``.

    The system itself holds the lock, and frees it when the process ends in whatever way. On a file system without
    locks the block is entered all the same. Raises Locked where another process has the lock for more than
    ``patience`` seconds (one that only asks has it for a moment, see read_lock), UserError where the file cannot be
    made.
    """
    file = _locked(lock, time.monotonic() + patience)
    try:
        with suppress(OSError):  # a full disk: whoever works here will say so
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
        except OSError:  # no locks here
            return file
        with suppress(OSError):
            if os.path.samestat(os.stat(lock), os.fstat(file.fileno())):
                return file
        file.close()  # it is one that the holder before has just removed


def read_lock(lock: Path) -> tuple[bool, dict[str, Any]]:
    """Whether another process holds the lock file at this moment, and what the file says; (False, {}) without a file.

    Not for the process that holds it, which would lose its lock by asking.
    """
    try:
        with lock.open("rb") as file:
            content = _content(file.read())
            try:
                fcntl.lockf(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
            except (BlockingIOError, PermissionError):
                return True, content
            except OSError:  # no locks here
                pass
            return False, content
    except OSError:
        return False, {}


def _content(data: bytes) -> dict[str, Any]:
    try:
        content = json.loads(data)
    except (ValueError, RecursionError):  # it is just being written, or the disk is full, or of an earlier version
        return {}
    return content if isinstance(content, dict) else {}


def holder_of(content: Mapping[str, Any]) -> Holder:
    """Who wrote the content of a lock file, as far as it says so."""
    pid, names = content.get("pid"), [content.get(name) for name in ("host", "user", "job")]
    if type(pid) is not int or not 0 < pid < 2**31:  # other numbers mean groups of processes
        return Holder()
    return Holder(pid, *(name if isinstance(name, str) else "" for name in names))


def lock_holder(lock: Path) -> Holder | None:
    """Which other process holds a lock file at this moment; None if none does, or if it cannot be told."""
    held, content = read_lock(lock)
    return holder_of(content) if held else None
