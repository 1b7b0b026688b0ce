"""Version of the package, and the commit if it runs from a clone."""

import argparse
import functools
import importlib.metadata
import re
import subprocess
from contextlib import suppress
from pathlib import Path
from typing import Any

from sskd.paths import CLONE

__version__ = "0.1.0"

CODE = ("sskd", "benchmarks", "configs")


@functools.cache
def code() -> dict[str, Any]:
    """Returns version, commit, and dirty: True if the code differs from the commit (changed tracked files, or new
    files in the packages and configs, which registries and profiles import). commit and dirty are None without a
    clone or git."""
    unknown = {"version": __version__, "commit": None, "dirty": None}
    if CLONE is None:
        return unknown
    git = ("git", "-C", str(CLONE))
    top = first_line(*git, "rev-parse", "--show-toplevel")
    if top is None or Path(top).resolve() != CLONE:  # a folder inside another project's repository
        return unknown
    commit = first_line(*git, "rev-parse", "HEAD")
    changed = first_line(*git, "status", "--porcelain", "--untracked-files=no") or first_line(
        *git, "ls-files", "--others", "--exclude-standard", "--", *CODE
    )
    return unknown | {"commit": commit, "dirty": bool(changed) if commit else None}


def in_commit(file: Path) -> bool:
    """Returns True if the file is unchanged in the clone's commit."""
    if CLONE is None or CLONE not in file.parents:
        return False
    git = ("git", "-C", str(CLONE))
    now = first_line(*git, "hash-object", "--", str(file))
    return now is not None and now == first_line(*git, "rev-parse", f"HEAD:{file.relative_to(CLONE).as_posix()}")


def describe() -> str:
    """Returns for example "sskd 0.1.0 (commit 0123456789ab, with changes)"."""
    known = code()
    commit = f" (commit {known['commit'][:12]}{', with changes' if known['dirty'] else ''})" if known["commit"] else ""
    return f"sskd {known['version']}{commit}"


EXTRAS_OF_RESULTS = ("timm",)  # extras that results may depend on


@functools.cache
def packages() -> dict[str, str]:
    """Returns the versions of the direct dependencies by name, and of timm if it is installed. Empty if the package
    is used without being installed."""
    try:
        needed = importlib.metadata.requires("sskd") or []
    except importlib.metadata.PackageNotFoundError:
        return {}
    found = {}
    always = [line for line in needed if "extra ==" not in line or line.startswith(EXTRAS_OF_RESULTS)]
    for name in sorted(re.split(r"[^\w.-]", line, maxsplit=1)[0] for line in always):
        with suppress(importlib.metadata.PackageNotFoundError):
            found[name] = importlib.metadata.version(name)
    return found


class ShowVersion(argparse.Action):
    """The option ``--version``; git is only called if it is given."""

    def __init__(self, option_strings: list[str], dest: str, **_: Any) -> None:
        super().__init__(option_strings, argparse.SUPPRESS, nargs=0, help="print the version and the commit, and stop")

    def __call__(self, parser: argparse.ArgumentParser, *_: Any) -> None:
        print(describe())
        parser.exit()


def first_line(*command: str) -> str | None:
    """Returns the first line that a command prints; None if it fails, prints nothing, or does not exist."""
    try:
        done = subprocess.run(
            command, capture_output=True, text=True, timeout=10, check=True, encoding="utf-8", errors="replace"
        )
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout.strip().splitlines()[0] if done.stdout.strip() else None
