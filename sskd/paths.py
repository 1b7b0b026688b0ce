"""Paths of the suite's own files: configs/ and results/paper, in a clone or in an installed package.

Importing this module is cheap: the command line's help and errors use it.
"""

from pathlib import Path

PACKAGE = Path(__file__).resolve().parent
INSTALLED = PACKAGE / "installed"  # only in a wheel: setup.py copies the two folders there
CLONE = None if INSTALLED.is_dir() else PACKAGE.parent  # the root of the repository; None for an installed wheel

ROOT = CLONE or INSTALLED
CONFIGS = ROOT / "configs"
PAPER = ROOT / "results" / "paper"  # published numbers, with their sources


def config_names(kind: str) -> list[str]:
    """Returns the names of the files in configs/<kind> ("profiles", "clusters"), sorted."""
    return sorted(path.stem for path in (CONFIGS / kind).glob("*.yaml"))
