"""Ways for a student to learn from a teacher. One file per method; it registers itself."""

from sskd.methods.base import METHODS, InitialStage, LossTerms, Method, MethodContext, MethodInfo
from sskd.methods.checks import check_pair, check_recipe

__all__ = [
    "METHODS",
    "InitialStage",
    "LossTerms",
    "Method",
    "MethodContext",
    "MethodInfo",
    "check_pair",
    "check_recipe",
]
