"""Files that others made: regular files alone are read. No link is followed, and no FIFO or device is opened."""

import hashlib
import os
import stat
from collections.abc import Callable
from pathlib import Path
from typing import BinaryIO

from sskd.errors import UserError
from sskd.runs.files import plain_os_errors

TEXT = 64 * 2**20  # bytes that a file of JSON or YAML may have
TENSORS = 16 * 2**30  # bytes that a file of tensors may have
DEEPEST = 4  # folders in folders that are looked into
KINDS: tuple[tuple[Callable[[int], bool], str], ...] = (
    (stat.S_ISREG, "file"),
    (stat.S_ISDIR, "folder"),
    (stat.S_ISLNK, "link"),
    (stat.S_ISFIFO, "FIFO"),
    (stat.S_ISSOCK, "socket"),
)


def kind_of_entry(path: Path) -> str:
    """What lies at the path itself, a link not followed: file, folder, link, FIFO, socket, device; "" for nothing."""
    with plain_os_errors("read", path):
        try:
            mode = path.lstat().st_mode
        except (FileNotFoundError, NotADirectoryError):
            return ""
    return next((name for test, name in KINDS if test(mode)), "device")


def entries_below(folder: Path) -> dict[str, str]:
    """Everything below a folder: the kind of each entry, by its path from there. Links are not followed."""
    found: dict[str, str] = {}

    def visit(place: Path, prefix: str, depth: int) -> None:
        with plain_os_errors("read", place):
            names = sorted(os.listdir(place))
        for name in names:
            kind = found[prefix + name] = kind_of_entry(place / name)
            if kind == "folder" and depth < DEEPEST:
                visit(place / name, f"{prefix}{name}/", depth + 1)

    visit(folder, "", 1)
    return found


def open_plain(path: Path, most: int) -> BinaryIO:
    """Opens a regular file of at most ``most`` bytes. UserError for whatever else is there."""
    kind = kind_of_entry(path)
    if kind != "file":
        raise UserError(f"{path} is {f'a {kind}' if kind else 'missing'}, and must be a plain file")
    with plain_os_errors("read", path):
        # should it have become something else since: a link is refused, and a FIFO does not wait for a writer
        number = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
    file = os.fdopen(number, "rb")
    found = os.fstat(number)
    if stat.S_ISREG(found.st_mode) and found.st_size <= most:
        return file
    file.close()
    raise UserError(f"{path} has {found.st_size:,} bytes, more than the {most:,} that such a file may have")


def read_plain(path: Path, most: int = TEXT) -> bytes:
    """The content of a regular file of at most ``most`` bytes. UserError for whatever else is there."""
    with plain_os_errors("read", path), open_plain(path, most) as file:
        return file.read(most)


def plain_sha256(path: Path) -> str:
    """sha256 of a regular file's content, in hex. UserError for whatever else is there."""
    digest = hashlib.sha256()
    with plain_os_errors("read", path), open_plain(path, TENSORS) as file:
        while block := file.read(2**20):
            digest.update(block)
    return digest.hexdigest()


def copy_plain(source: Path, target: Path) -> None:
    """Copies a regular file's content. UserError for whatever else is there."""
    with plain_os_errors("copy", source), open_plain(source, TENSORS) as file, target.open("wb") as copy:
        while block := file.read(2**20):
            copy.write(block)
