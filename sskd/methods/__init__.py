"""Ways for a student to learn from a teacher. One file per method; it registers itself."""

from sskd.methods.base import METHODS, InitialStage, Method, MethodContext, MethodInfo, Terms

__all__ = ["METHODS", "InitialStage", "Method", "MethodContext", "MethodInfo", "Terms"]
