"""Knowledge distillation (Hinton et al. 2015): the teacher's softened predictions."""

from sskd.methods.base import METHODS, Method, MethodInfo


@METHODS.register("kd")
class KD(Method):
    """0.1 CE + 0.9 KL(4) as published: both terms are every method's; this one only turns the second on."""

    info = MethodInfo(
        "KD",
        "Hinton et al., arXiv 2015, Distilling the Knowledge in a Neural Network",
        2015,
        "softened predictions",
    )
    needs = frozenset({"logits", "labels"})
