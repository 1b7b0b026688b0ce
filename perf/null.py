"""Null GPU: a stub CUDA library that computes nothing and counts the calls it receives.

With it a CUDA build of PyTorch runs code for "cuda" on a machine without a GPU. It measures neither times nor results.
The library is not part of this project: a folder with run.sh and null_gpu.py, named by NULL_GPU, or found next to the
checkout.
"""

import importlib.util
import os
import sys
from pathlib import Path
from typing import Any

FOLDER = Path(os.environ.get("NULL_GPU", Path(__file__).resolve().parents[2] / "shared" / "null_gpu"))


def found() -> bool:
    """Returns True if the stub library is available."""
    return (FOLDER / "run.sh").is_file()


def running() -> bool:
    """Returns True if this process uses the stub library."""
    return importlib.util.find_spec("null_gpu") is not None


def start_again(module: str, arguments: list[str]) -> None:
    """Replaces this process by ``python -m module`` with the stub library. Exits with status 2 if it is not
    available."""
    if not found():
        print(f"there is no null GPU at {FOLDER}: set NULL_GPU to the folder of its run.sh", file=sys.stderr)
        sys.exit(2)
    script = str(FOLDER / "run.sh")
    os.execvp("bash", ["bash", script, sys.executable, "-m", module, *arguments])


def labels_on_the_host() -> None:
    """Keeps labels on the host while methods are built. Values computed by the stub are undefined, so tables that
    methods make from the labels (CRD's classes) must be built on the host."""
    import sskd.distillation.distiller as distiller

    context = distiller.MethodContext

    def on_the_host(**fields: Any) -> Any:
        return context(**fields | {"labels": fields["labels"].cpu()})

    distiller.MethodContext = on_the_host  # type: ignore[assignment, misc]
