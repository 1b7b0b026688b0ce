"""Properties of all methods: the weighted sum, its warm-up, and frozen modules, also in a user's method."""

import copy
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import nn

from sskd.config.recipe import Recipe
from sskd.methods import METHODS, Method, MethodContext, MethodInfo
from sskd.networks import Network, build_network, feature_shapes
from sskd.runs.settings import method_settings
from tests.methods.given import batch_like
from tests.methods.shapes import FLAT, build, features_like


@pytest.mark.parametrize(("epochs", "epoch", "share"), [(240, 0, 1 / 20), (240, 19, 1), (240, 30, 1), (24, 0, 0.5)])
def test_warm_up_follows_the_schedule_and_is_of_own_terms_alone(epochs: int, epoch: int, share: float) -> None:
    """The warm-up has 20 of 240 epochs; in a shorter run of the same schedule it is scaled like the milestones."""
    context = MethodContext(
        Network(), FLAT, 4, torch.arange(50), Network(), FLAT, recipe=Recipe(epochs=epochs, full_epochs=240)
    )
    method = METHODS["dkd"](method_settings("dkd", kd_weight=0.5), context)
    method.begin_epoch(epoch)
    total, (losses, _) = method(features_like(FLAT), features_like(FLAT), batch_like(torch.arange(4)))
    own = sum(method.loss_weights[name] * losses[name] for name in ("tckd", "nckd"))
    torch.testing.assert_close(total, losses["ce"] + 0.5 * losses["kd"] + share * own)
    assert "ramp" not in method.state_dict()  # an epoch's, not learned


def test_ctkd_on_dkd_is_dkd_at_its_temperature() -> None:
    sides, batch = (features_like(FLAT), features_like(FLAT)), batch_like(torch.arange(4))
    host: Any = build("ctkd", FLAT, FLAT, host="dkd")
    plain = build("dkd", FLAT, FLAT, temperature=host.temperature().item(), warmup_epochs=0.0)
    torch.testing.assert_close(host(*sides, batch)[0], plain(*sides, batch)[0])


# --- what is frozen ---------------------------------------------------------------------------------------------------


class Made(Method):
    """A method that holds a frozen module as an attribute."""

    info = MethodInfo("Made", "a test", 2026, "nothing")


class Wrapper(Network):
    def __init__(self, student: nn.Module, layer: nn.Module) -> None:
        super().__init__()
        self.student, self.layer = student, layer


KEEPS: dict[str, Callable[[Any], Any]] = {
    "the teacher": lambda c: c.teacher,
    "its head": lambda c: c.head,
    "a part of it": lambda c: c.teacher.layer2,
    "it in a list": lambda c: nn.ModuleList([nn.Linear(2, 2), c.teacher]),
    "it in a module": lambda c: nn.Sequential(Wrapper(c.teacher, nn.ReLU()), nn.Linear(10, 3)),
    "a copy of it": lambda c: copy.deepcopy(c.teacher),
}


@pytest.fixture
def context() -> MethodContext:
    shapes, head = feature_shapes("resnet8"), nn.Sequential(nn.BatchNorm1d(4)).eval().requires_grad_(False)
    student, teacher = build_network("resnet8", 10), build_network("resnet8", 10).eval().requires_grad_(False)
    return MethodContext(student, shapes, 10, torch.arange(20) % 10, teacher, shapes, head)  # type: ignore[arg-type]


def made(context: MethodContext) -> Method:
    METHODS.register("made")(Made)
    return Made(method_settings("made"), context)


@pytest.mark.parametrize("what", KEEPS)
def test_a_method_that_keeps_what_is_frozen_leaves_it_so(what: str, context: MethodContext) -> None:
    method = made(context)
    method.kept, method.own = KEEPS[what](context), nn.Sequential(nn.Linear(2, 2), nn.BatchNorm1d(2))
    modules = nn.ModuleDict({"network": context.student, "method": method})
    for mode in (True, False, True):
        modules.train(mode)
    frozen = [m for m in method.kept.modules() if isinstance(m, nn.BatchNorm1d | nn.BatchNorm2d)]
    assert frozen
    assert not any(norm.training for norm in frozen)
    assert method.own[1].training


def test_a_predictor_with_a_part_of_the_teacher_leaves_it_frozen(context: MethodContext) -> None:
    teacher: Any = context.teacher
    for module in (Wrapper(context.student, teacher.layer3), made(context)):  # as an epoch of the main stage begins
        module.train()
    assert not any(module.training for module in teacher.modules())
