"""Knowledge Distillation Meets Self-Supervision (Xu et al., ECCV 2020): the trainer.

The package trains teachers, self-supervised heads and students. It knows nothing of the paper's tables; those are
in ``benchmarks``.
"""

import os
from typing import TYPE_CHECKING, Any

from sskd.version import __version__ as __version__

if TYPE_CHECKING:
    from sskd.runs.trained import load_exported as load_exported
    from sskd.runs.trained import load_student as load_student

# Read by torch at its first large allocation: huge pages for tensors on the CPU, where the kernel offers them on
# request. Convolutional training there spends a fifth of its time on page faults otherwise (make perf).
os.environ.setdefault("THP_MEM_ALLOC_ENABLE", "1")


def __getattr__(name: str) -> Any:
    if name in ("load_student", "load_exported"):  # they bring torch, which takes seconds: help must come at once
        from sskd.runs import trained

        return getattr(trained, name)
    raise AttributeError(f"module 'sskd' has no attribute '{name}'")
