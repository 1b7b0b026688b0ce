"""Who works on a run: claims as files, taken atomically, that outlive neither their holder nor confuse two takers.

A run's claims are numbered files in ``<folder>/<run id>/``; the highest number counts. A claim is taken by creating
the next number, which the file system lets exactly one process do (a hard link, also over NFS), and nobody ever
removes another's file: so two that find the same stale claim cannot both take it over.

Hosts' clocks differ. Every time that is compared here is therefore one that the file system gave: when a claim or a
run's progress file was written, and "now" as a file has it that is made at this moment.
"""

import dataclasses
import json
import os
import re
import secrets
import shutil
import tempfile
from collections.abc import Callable, Iterable
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from sskd.errors import UserError
from sskd.runs.files import plain_os_errors
from sskd.runtime.machine import host, user

CLAIM = re.compile(r"[1-9][0-9]*\.json", re.ASCII)  # the name of a claim's file
SILENT_AFTER = 3600.0  # seconds without a sign of life after which a holder on another host is given up


@dataclass(frozen=True)
class LockHolder:
    """Who has claimed a run: a process, or a job of Slurm."""

    token: str = field(default_factory=lambda: secrets.token_hex(8))
    host: str = field(default_factory=host)
    pid: int = field(default_factory=os.getpid)
    born: str = field(default_factory=lambda: process_birth(os.getpid()))  # tells a reused pid from the same process
    user: str = field(default_factory=user)
    batch: str = ""  # of Slurm: the name under which the job is submitted, known before its number is
    index: int = 0
    job: str = ""  # of Slurm: 17, or 17_3
    time: float = field(default=0.0, compare=False)  # when the claim was written, by the file system's clock

    def __str__(self) -> str:
        return f"job {self.job} of {self.user}" if self.job else f"process {self.pid} of {self.user} on {self.host}"


class RunLocks:
    """The claims of a results folder."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def holder(self, run_id: str) -> LockHolder | None:
        """Who holds the run now, alive or not; None if nobody does."""
        numbers = self._numbers(run_id)
        return self._read(run_id, numbers[-1]) if numbers else None

    def acquire(self, run_id: str, holder: LockHolder, alive: Callable[[LockHolder], bool]) -> bool:
        """Claims the run for ``holder`` unless someone alive holds it. False if so, or if another was faster."""
        numbers = self._numbers(run_id)
        if numbers:
            present = self._read(run_id, numbers[-1])
            if present is not None and alive(present):
                return False
        return self._create(run_id, numbers[-1] + 1 if numbers else 1, holder)

    def update(self, run_id: str, holder: LockHolder) -> bool:
        """Rewrites the holder's own claim (known by its token); False if it is not its own any more."""
        return self._rewrite(run_id, holder.token, _as_data(holder))

    def release(self, run_id: str, token: str) -> None:
        """Gives the run back, if the claim is still the token's."""
        self._rewrite(run_id, token, {"released": True})

    def delete(self, run_id: str) -> None:
        """Removes all claims of a run that is finished, which nobody needs to claim again."""
        shutil.rmtree(self.folder / run_id, ignore_errors=True)

    def all(self) -> dict[str, LockHolder]:
        """Every held run and its holder."""
        present = sorted(path.name for path in self.folder.iterdir() if path.is_dir()) if self.folder.is_dir() else []
        holders = {run_id: self.holder(run_id) for run_id in present}
        return {run_id: holder for run_id, holder in holders.items() if holder is not None}

    def _numbers(self, run_id: str) -> list[int]:
        """The numbers of the run's claims, in order. Files that are none are passed over."""
        try:
            names = os.listdir(self.folder / run_id)
        except (FileNotFoundError, NotADirectoryError):
            return []
        except OSError as error:
            raise UserError(f"cannot read {self.folder / run_id}: {error.strerror or error}") from None
        return sorted(int(name[:-5]) for name in names if CLAIM.fullmatch(name))

    def _path(self, run_id: str, number: int) -> Path:
        return self.folder / run_id / f"{number}.json"

    def _read(self, run_id: str, number: int) -> LockHolder | None:
        try:
            with self._path(run_id, number).open("rb") as file:
                return _as_holder(json.load(file), os.fstat(file.fileno()).st_mtime)
        except (FileNotFoundError, IsADirectoryError, ValueError, RecursionError):  # forgotten meanwhile, or damaged
            return None
        except OSError as error:
            raise UserError(f"cannot read {self._path(run_id, number)}: {error.strerror or error}") from None

    def _create(self, run_id: str, number: int, holder: LockHolder) -> bool:
        path = self._path(run_id, number)
        draft = path.with_name(f".{holder.token}.draft")
        with plain_os_errors("claim a run in", path.parent):
            try:
                path.parent.mkdir(parents=True, exist_ok=True)
                _write(draft, _as_data(holder))
                os.link(draft, path)  # atomic, and with its content from the first moment
            except FileExistsError:
                if path.parent.is_file():
                    raise
                return False
            except FileNotFoundError:
                if not self.folder.is_dir():  # it cannot be made, as below /proc: waiting would not help
                    raise
                return False  # the run's folder was removed at this moment: the run has just been finished
            finally:
                draft.unlink(missing_ok=True)
        return self._numbers(run_id)[-1:] == [number]

    def _rewrite(self, run_id: str, token: str, data: dict[str, Any]) -> bool:
        numbers = self._numbers(run_id)
        holder = self._read(run_id, numbers[-1]) if numbers else None
        if holder is None or holder.token != token:
            return False
        path = self._path(run_id, numbers[-1])
        draft = path.with_name(f".{token}.{os.getpid()}.draft")
        try:
            _write(draft, data)
            os.replace(draft, path)
        except OSError:  # the disk is full: the claim stays as it was, and its holder's death will end it
            with suppress(OSError):
                draft.unlink(missing_ok=True)
                if data.get("released"):  # an empty claim is nobody's, and emptying it needs no space
                    os.truncate(path, 0)
        return True


def _as_data(holder: LockHolder) -> dict[str, Any]:
    return {name: value for name, value in dataclasses.asdict(holder).items() if name != "time"}


def _as_holder(data: Any, written: float) -> LockHolder | None:
    """Whom a claim's content names; None if it is released, or is not what a claim holds."""
    expected = {field.name: field.type for field in dataclasses.fields(LockHolder) if field.name != "time"}
    if not isinstance(data, dict) or any(type(data.get(name)) is not kind for name, kind in expected.items()):
        return None
    holder = LockHolder(**{name: data[name] for name in expected}, time=written)
    return holder if 0 < holder.pid < 2**31 else None  # other numbers mean groups of processes, or nothing


def file_time(folder: Path) -> float | None:
    """Now, by the clock of the file system that holds the folder; None where nothing can be written."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(prefix=".now", dir=folder) as file:
            os.utime(file.fileno())  # without a time: over NFS the server takes its own
            return os.fstat(file.fileno()).st_mtime
    except OSError:
        return None


def written_at(path: Path) -> float | None:
    """When the file was written, by its file system's clock; None if there is none."""
    try:
        return path.stat().st_mtime
    except OSError:
        return None


def process_is_alive(
    holder: LockHolder, now: Callable[[], float | None] = lambda: None, signs: Iterable[float | None] = ()
) -> bool:
    """Whether the holder's process exists; on another host, whether it has given a sign within an hour.

    All times are the file system's: ``now`` gives the present one (None if it cannot be told: then the holder counts as
    alive), ``signs`` are the run's signs of life beside the claim itself. One from the future is no sign: whoever lives
    gives another.
    """
    if holder.host != host():
        present = now()
        seen = [sign for sign in (holder.time, *signs) if sign is not None]
        return present is None or any(abs(present - sign) < SILENT_AFTER for sign in seen)
    try:
        os.kill(holder.pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        pass
    return process_birth(holder.pid) == holder.born


def process_birth(pid: int) -> str:
    """When the process started, in ticks since the machine did; "" for a zombie, and where the system does not tell."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()
    except OSError:
        return ""
    return "" if fields[0] in "ZX" else fields[19]


def _write(path: Path, data: dict[str, Any]) -> None:
    with path.open("w", encoding="utf-8") as file:
        json.dump(data, file)
        file.flush()
        os.fsync(file.fileno())
