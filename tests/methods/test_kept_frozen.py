"""What is frozen stays frozen, also where a user's method keeps it as an attribute: in eval mode and not trained."""

import copy
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import nn

from sskd.methods import METHODS, Method, MethodContext, MethodInfo
from sskd.networks import build_network, feature_shapes
from sskd.networks.base import Network
from sskd.runs.settings import method_settings


class Made(Method):
    """A method that holds a frozen module as an attribute."""

    info = MethodInfo("Made", "a test", 2026, "nothing")


class Wrapper(nn.Module):
    def __init__(self, inner: nn.Module) -> None:
        super().__init__()
        self.inner = inner


KEEPS: dict[str, Callable[[Any], Any]] = {
    "the teacher": lambda c: c.teacher,
    "its head": lambda c: c.head,
    "a part of it": lambda c: c.teacher.layer2,
    "it in a list": lambda c: nn.ModuleList([nn.Linear(2, 2), c.teacher]),
    "it in a module": lambda c: nn.Sequential(Wrapper(c.teacher), nn.Linear(10, 3)),
    "a copy of it": lambda c: copy.deepcopy(c.teacher),
}


def context_with_head() -> MethodContext:
    head: Any = nn.Sequential(nn.BatchNorm1d(4))
    return MethodContext(
        student=build_network("resnet8", 10),
        student_shapes=feature_shapes("resnet8"),
        num_classes=10,
        labels=torch.arange(20) % 10,
        teacher=build_network("resnet8", 10).eval().requires_grad_(False),
        teacher_shapes=feature_shapes("resnet8"),
        head=head.eval().requires_grad_(False),
    )


def made(context: MethodContext) -> Method:
    METHODS.register("made")(Made)
    return Made(method_settings("made"), context)


@pytest.mark.parametrize("what", KEEPS)
def test_a_method_that_keeps_what_is_frozen_leaves_it_so(what: str) -> None:
    context = context_with_head()
    method = made(context)
    method.kept, method.own = KEEPS[what](context), nn.Sequential(nn.Linear(2, 2), nn.BatchNorm1d(2))
    modules = nn.ModuleDict({"network": context.student, "method": method})
    for mode in (True, False, True):
        modules.train(mode)
    frozen = [m for m in method.kept.modules() if isinstance(m, nn.BatchNorm1d | nn.BatchNorm2d)]
    assert frozen
    assert not any(norm.training for norm in frozen)
    assert method.own[1].training
    assert not context.teacher.training  # type: ignore[union-attr]


class Through(Network):
    """Predicts through a layer of the teacher's."""

    def __init__(self, student: Network, layer: nn.Module) -> None:
        super().__init__()
        self.student, self.layer = student, layer


def test_a_predictor_with_a_part_of_the_teacher_leaves_it_frozen() -> None:
    context = context_with_head()
    method, teacher = made(context), context.teacher
    assert teacher is not None
    predictor = Through(context.student, teacher.layer3)  # type: ignore[arg-type]
    for module in (predictor, method):  # as an epoch of the main stage begins
        module.train()
    assert not any(module.training for module in teacher.modules())
