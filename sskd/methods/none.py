"""Training without a teacher: the row "Student" of the paper's tables."""

from sskd.methods.base import METHODS, Method, MethodInfo


@METHODS.register("none")
class NoDistillation(Method):
    """Uses only the cross-entropy with the labels; no teacher is loaded."""

    info = MethodInfo(
        "Student",
        "no distillation",
        0,
        "nothing",
        family="control",
        formula=r"\mathrm{CE}(y, p^s)",
    )
    needs_teacher = False
