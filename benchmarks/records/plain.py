"""Reads files from other people: only regular files; links, FIFOs and devices are not opened."""

import os
import shutil
import stat
from pathlib import Path
from typing import BinaryIO

from sskd.errors import UserError
from sskd.networks.weights import sha256_of
from sskd.runs.files import plain_os_errors

TEXT = 64 * 2**20  # maximum bytes of a JSON or YAML file
TENSORS = 16 * 2**30  # maximum bytes of a tensor file
DEEPEST = 4  # maximum depth of folders
KINDS = {
    stat.S_IFREG: "file",
    stat.S_IFDIR: "folder",
    stat.S_IFLNK: "link",
    stat.S_IFIFO: "FIFO",
    stat.S_IFSOCK: "socket",
}


def kind_of_entry(path: Path) -> str:
    """Returns the kind of a path without following links: file, folder, link, FIFO, socket, device; "" if it does not
    exist."""
    with plain_os_errors("read", path):
        try:
            return KINDS.get(stat.S_IFMT(path.lstat().st_mode), "device")
        except (FileNotFoundError, NotADirectoryError):
            return ""


def entries_below(folder: Path, depth: int = 1) -> dict[str, str]:
    """Returns the kind of every entry below a folder, by relative path. Does not follow links."""
    found: dict[str, str] = {}
    with plain_os_errors("read", folder):
        names = sorted(os.listdir(folder))
    for name in names:
        found[name] = kind_of_entry(folder / name)
        if found[name] == "folder" and depth < DEEPEST:
            inside = entries_below(folder / name, depth + 1)
            found |= {f"{name}/{path}": kind for path, kind in inside.items()}
    return found


def open_plain(path: Path, most: int) -> BinaryIO:
    """Opens a regular file of at most ``most`` bytes. Raises UserError for anything else."""
    kind = kind_of_entry(path)
    if kind != "file":
        raise UserError(f"{path} is {f'a {kind}' if kind else 'missing'}, and must be a plain file")
    with plain_os_errors("read", path):
        # if it was replaced meanwhile: a link fails, and a FIFO does not block
        file = os.fdopen(os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK), "rb")
    found = os.fstat(file.fileno())
    if stat.S_ISREG(found.st_mode) and found.st_size <= most:
        return file
    file.close()
    raise UserError(f"{path} has {found.st_size:,} bytes, the limit is {most:,}")


def read_plain(path: Path, most: int = TEXT) -> bytes:
    """Returns the content of a regular file of at most ``most`` bytes. Raises UserError for anything else."""
    with plain_os_errors("read", path), open_plain(path, most) as file:
        return file.read(most)


def plain_sha256(path: Path) -> str:
    """Returns the sha256 (hex) of a regular file. Raises UserError for anything else."""
    with plain_os_errors("read", path), open_plain(path, TENSORS) as file:
        return sha256_of(file)


def copy_plain(source: Path, target: Path) -> None:
    """Copies a regular file's content. Raises UserError for anything else."""
    with plain_os_errors("copy", source), open_plain(source, TENSORS) as file, target.open("wb") as copy:
        shutil.copyfileobj(file, copy)
