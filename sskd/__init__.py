"""Knowledge distillation: methods for any training loop, and a trainer that compares them.

``Distiller`` computes the loss of a distillation as one module (docs/your_own_loop.md). ``python -m sskd`` trains
teachers, self-supervised heads and students. The paper's tables are in the package ``benchmarks``, as are ``compare``
and ``plan``, the Python interface of the suite.
"""

import importlib
import os
from typing import TYPE_CHECKING, Any

from sskd.version import __version__ as __version__

if TYPE_CHECKING:
    from sskd.config.settings import MethodSettings as MethodSettings
    from sskd.distillation.adapt import suggest_taps as suggest_taps
    from sskd.distillation.distiller import Distiller as Distiller
    from sskd.distillation.given import settings as settings
    from sskd.distillation.heads import train_head as train_head
    from sskd.errors import UserError as UserError
    from sskd.methods import METHODS as METHODS
    from sskd.methods import InitialStage as InitialStage
    from sskd.methods import LossTerms as LossTerms
    from sskd.methods import Method as Method
    from sskd.methods import MethodContext as MethodContext
    from sskd.methods import MethodInfo as MethodInfo
    from sskd.networks import build_network as build_network
    from sskd.runs.trained import load_exported as load_exported
    from sskd.runs.trained import load_student as load_student
    from sskd.training.tasks.head import load_head as load_head

# public name: its module, imported at the first access, because importing torch would delay --help by seconds
_MODULES = {
    "Distiller": "sskd.distillation.distiller",
    "InitialStage": "sskd.methods",
    "LossTerms": "sskd.methods",
    "METHODS": "sskd.methods",
    "Method": "sskd.methods",
    "MethodContext": "sskd.methods",
    "MethodInfo": "sskd.methods",
    "MethodSettings": "sskd.config.settings",
    "UserError": "sskd.errors",
    "build_network": "sskd.networks",
    "compare": "benchmarks.commands.study",
    "load_exported": "sskd.runs.trained",
    "load_head": "sskd.training.tasks.head",
    "load_student": "sskd.runs.trained",
    "plan": "benchmarks.commands.study",
    "settings": "sskd.distillation.given",
    "suggest_taps": "sskd.distillation.adapt",
    "train_head": "sskd.distillation.heads",
}
__all__ = ["__version__", *_MODULES]

# torch reads this at its first large allocation and then requests huge pages for CPU tensors, if the kernel offers
# them. Without huge pages, convolutional training on a CPU spends a fifth of its time on page faults (make perf).
os.environ.setdefault("THP_MEM_ALLOC_ENABLE", "1")


def __getattr__(name: str) -> Any:
    if name in _MODULES:
        return getattr(importlib.import_module(_MODULES[name]), name)
    raise AttributeError(f"module 'sskd' has no attribute '{name}'")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
