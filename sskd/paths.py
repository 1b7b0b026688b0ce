"""Where the suite's own files are: configs/ and results/paper, of a clone or of an installed package.

Importing this costs nothing: the command line's help and errors read names from here.
"""

from pathlib import Path

PACKAGE = Path(__file__).resolve().parent
INSTALLED = PACKAGE / "installed"  # in a wheel only: setup.py copies the two folders there
CLONE = None if INSTALLED.is_dir() else PACKAGE.parent  # the repository's root; None where a wheel is installed

ROOT = CLONE or INSTALLED
CONFIGS = ROOT / "configs"
PAPER = ROOT / "results" / "paper"  # published numbers, with their sources


def config_names(kind: str) -> list[str]:
    """Names of the files in configs/<kind> ("profiles", "clusters"), sorted."""
    return sorted(path.stem for path in (CONFIGS / kind).glob("*.yaml"))
