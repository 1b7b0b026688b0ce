"""Counting on a null GPU: a library that stands in for CUDA's, computes nothing, and counts what it is asked to do.
With it a CUDA build of PyTorch runs the code for "cuda" on a machine without a GPU. It gives no time, and no number.

It is no part of this project: a folder with run.sh and null_gpu.py, named by NULL_GPU, else found beside the checkout.
"""

import importlib.util
import os
import sys
from pathlib import Path
from typing import Any

FOLDER = Path(os.environ.get("NULL_GPU", Path(__file__).resolve().parents[2] / "shared" / "null_gpu"))


def found() -> bool:
    """Whether there is one to start with."""
    return (FOLDER / "run.sh").is_file()


def running() -> bool:
    """Whether this process has one."""
    return importlib.util.find_spec("null_gpu") is not None


def start_again(module: str, arguments: list[str]) -> None:
    """Runs ``python -m module`` with a null GPU instead of this process. Ends with 2 where there is none."""
    if not found():
        print(f"there is no null GPU at {FOLDER}: name the folder of its run.sh in NULL_GPU", file=sys.stderr)
        sys.exit(2)
    script = str(FOLDER / "run.sh")
    os.execvp("bash", ["bash", script, sys.executable, "-m", module, *arguments])


def labels_on_the_host() -> None:
    """What the null GPU computes is undefined, so what a method makes of the labels when it is built (CRD's classes) is
    made on the host; the module is moved to the device afterwards."""
    import sskd.distillation.distiller as distiller

    context = distiller.MethodContext

    def on_the_host(**fields: Any) -> Any:
        return context(**fields | {"labels": fields["labels"].cpu()})

    distiller.MethodContext = on_the_host  # type: ignore[assignment, misc]
