"""Distillation methods, one file each. A file registers its method."""

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
