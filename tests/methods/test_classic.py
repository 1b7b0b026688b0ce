"""The methods up to 2019 that compare features, and DKD: golden losses and gradients from networks' features to the
weighted total, degenerate features, and what is refused."""

import math
from collections.abc import Callable, Sequence
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.nn import functional as F

from sskd.errors import UserError
from sskd.losses import kd_divergence
from sskd.methods import Method
from sskd.methods.cc import CC
from sskd.methods.dkd import decoupled_divergences
from sskd.methods.fitnet import FitNet, hint_loss
from sskd.methods.nst import selectivity_loss
from sskd.methods.pkt import probability_loss
from sskd.methods.rkd import relational_loss
from sskd.methods.vid import VID, GaussianRegressor
from sskd.networks import Features, FeatureShapes
from tests.golden import LOSSES, assert_golden, labels, tensor
from tests.methods.pairs import published_shapes
from tests.methods.stand_ins import CLASSES, batch_of, build, features_of

BATCH = 12
STUDENT = [tensor(10, 12, 16, 16, 16), tensor(11, 12, 32, 8, 8), tensor(12, 12, 64, 4, 4)]
EQUAL = [tensor(20, 12, 16, 16, 16), tensor(21, 12, 32, 8, 8), tensor(22, 12, 64, 4, 4)]
WIDER = [tensor(30, 12, 32, 8, 8), tensor(31, 12, 64, 8, 8), tensor(32, 12, 128, 8, 8)]
VECTOR, EQUAL_VECTOR, WIDER_VECTOR = tensor(40, 12, 64), tensor(41, 12, 64), tensor(42, 12, 128)
FIRST = tensor(7, 12, 4, 16, 16)

Side = tuple[Sequence[Tensor], Tensor]  # maps after the first, which no method here uses, and pooled vector
Case = tuple[str, str, float, Side, Side, slice]  # method, entry, published weight, student, teacher, whose gradients
MAPS, LAST, POOLED = slice(1, -1), slice(-2, -1), slice(-1, None)

CASES: list[Case] = [
    ("fitnet", "fitnet_mse", 100, (STUDENT, VECTOR), (EQUAL, EQUAL_VECTOR), slice(2, 3)),
    ("at", "at", 1000, (STUDENT, VECTOR), (EQUAL, EQUAL_VECTOR), MAPS),
    ("at", "at_other_sizes", 1000, (STUDENT, VECTOR), (WIDER, WIDER_VECTOR), MAPS),
    ("sp", "sp", 3000, (STUDENT, VECTOR), (WIDER, WIDER_VECTOR), LAST),
    ("cc", "cc", 0.02, (STUDENT, VECTOR), (EQUAL, EQUAL_VECTOR), POOLED),
    ("vid", "vid", 1, (STUDENT[2:], VECTOR), (WIDER[2:], WIDER_VECTOR), LAST),
    ("rkd", "rkd", 1, (STUDENT, VECTOR), (WIDER, WIDER_VECTOR), POOLED),
    ("pkt", "pkt", 30000, (STUDENT, VECTOR), (WIDER, WIDER_VECTOR), POOLED),
    ("nst", "nst", 50, (STUDENT, VECTOR), (WIDER, WIDER_VECTOR), MAPS),
]


def features(logits: Tensor, side: Side, layout: torch.memory_format, gradient: bool = False) -> Features:
    ready = [each.contiguous(memory_format=layout) for each in (FIRST, *side[0])]
    *maps, pooled = (each.clone().requires_grad_(gradient) for each in (*ready, side[1]))
    return Features(logits, tuple(maps), pooled, tuple(maps))


def shapes(features: Features) -> FeatureShapes:
    maps = tuple(tuple(each.shape[1:]) for each in features.feature_maps)
    return FeatureShapes("network", maps, features.pooled.shape[1])


def levels(features: Features) -> tuple[Tensor, ...]:
    return (*features.feature_maps, features.pooled)


def set_golden_parameters(method: Method) -> None:
    """Golden values start where the extra modules end (fitnet, cc), or at fixed weights (vid)."""
    if isinstance(method, FitNet):
        method.regressor = nn.Sequential()
    elif isinstance(method, CC):
        for embed in (method.embed_student, method.embed_teacher):
            nn.init.eye_(embed.weight)
            nn.init.zeros_(embed.bias)
    elif isinstance(method, VID):
        for i, weight in enumerate(p for name, p in method.named_parameters() if "regressor" in name):
            weight.data = 0.1 * tensor(101 + i, *weight.shape)


@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last], ids=["contiguous", "channels-last"])
@pytest.mark.parametrize("case", CASES, ids=[case[1] for case in CASES])
def test_golden_and_the_total_that_it_is_weighted_in(case: Case, layout: torch.memory_format) -> None:
    """Covers both memory layouts, and checks that the features are not changed."""
    name, golden, weight, student, teacher, learned = case
    student_features = features(3 * tensor(1, BATCH, CLASSES), student, layout, gradient=True)
    teacher_features = features(3 * tensor(2, BATCH, CLASSES), teacher, layout)
    before = [each.detach().clone() for each in (*levels(student_features), *levels(teacher_features))]
    width = {"width": 64} if name == "cc" else {}
    method = build(name, shapes(student_features), shapes(teacher_features), kd_weight=1.0, **width)
    set_golden_parameters(method)
    batch = batch_of(BATCH)
    total, terms = method(student_features, teacher_features, batch)

    assert terms.losses.keys() == {"ce", "kd", name}
    assert math.isclose(terms.losses["kd"].item(), LOSSES["kd_T4"]["loss"], rel_tol=1e-5)
    expected = F.cross_entropy(student_features.logits, batch.labels).item() + terms.losses["kd"].item()
    assert math.isclose(total.item(), expected + weight * LOSSES[golden]["loss"], rel_tol=1e-5)
    relative = 1e-5 if layout is torch.contiguous_format else 2e-5
    assert_golden(golden, terms.losses[name], levels(student_features)[learned], relative=relative)
    for now, then in zip((*levels(student_features), *levels(teacher_features)), before, strict=True):
        assert torch.equal(now, then)


@pytest.mark.parametrize(
    ("name", "teacher", "settings", "match"),
    [
        ("at", "vgg13", {}, "'at'.*resnet20 has 3 and vgg13 has 4"),
        ("nst", "vgg13", {}, "'nst'.*resnet20 has 3 and vgg13 has 4"),
        ("vid", "vgg13", {}, "'vid'.*resnet20 has 3 and vgg13 has 4"),
        ("fitnet", "resnet20", {"tap": 4}, "resnet20 has no map at tap 4; set tap between 0 and 3"),
        ("semckd", "flat", {}, "'semckd'.*flat gives none"),
        ("ofd", "MobileNetV2", {}, "'ofd' pairs|'ofd' needs the batch norm"),
        ("wkdf", "resnet20", {"grid": 8}, "'wkdf'.*grid 8"),
        ("wkdl", "flat", {}, "'wkdl'.*flat.*distances_of"),
    ],
)
def test_what_does_not_fit_is_refused_when_planned(
    name: str, teacher: str, settings: dict[str, Any], match: str
) -> None:
    shapes = FeatureShapes("flat", (), 64) if teacher == "flat" else published_shapes(teacher)
    with pytest.raises(UserError, match=match):
        build(name, published_shapes("resnet20"), shapes, **settings)


def relational(student: Tensor) -> Tensor:
    return relational_loss(student, tensor(2, 6, 8), 25.0, 50.0)


def of_confident(student: Tensor) -> Tensor:
    return torch.stack(decoupled_divergences(200 * student, -200 * student.detach(), labels(3, 6, 8), 4.0)).sum()


@pytest.mark.parametrize("loss", [relational, of_confident, lambda student: probability_loss(student, tensor(2, 6, 8))])
@pytest.mark.parametrize("equal", [2, 6])
def test_images_with_equal_or_no_features_give_finite_gradients(loss: Callable[[Tensor], Tensor], equal: int) -> None:
    points = tensor(1, 6, 8)
    points[:equal] = points[0] * (equal == 2)
    points.requires_grad_()
    assert loss(points).isfinite()
    assert torch.autograd.grad(loss(points), points)[0].isfinite().all()


def test_fitnets_regressor_of_the_chosen_tap_ends_in_a_relu() -> None:
    shapes = published_shapes("resnet20")
    method: Any = build("fitnet", shapes, shapes, tap=1)
    student, teacher = features_of(shapes, 4, 1, True), features_of(shapes, 4, 2, False)
    regressed = method.regressor(student.feature_maps[1])
    assert regressed.min() == 0
    found = method.loss_terms(student, teacher, batch_of(4)).losses["fitnet"]
    torch.testing.assert_close(found, hint_loss(regressed, teacher.feature_maps[1]))


def nst_by_definition(student: Tensor, teacher: Tensor) -> Tensor:
    def kernel(a: Tensor, b: Tensor) -> Tensor:
        unit_a, unit_b = (F.normalize(maps.double().flatten(2), dim=2) for maps in (a, b))
        return (unit_a[:, :, None] * unit_b[:, None]).sum(dim=3).pow(2).mean()

    return kernel(teacher, teacher) + kernel(student, student) - 2 * kernel(student, teacher)


@pytest.mark.parametrize("widths", [(3, 5), (20, 4), (4, 20), (16, 16)])  # fewer and more channels than positions
def test_both_ways_in_which_nst_sums_are_the_definition(widths: tuple[int, int]) -> None:
    student, teacher = (tensor(k, 3, width, 4, 4).relu() for k, width in enumerate(widths))
    leaf = student.requires_grad_()
    found, expected = selectivity_loss(leaf, teacher), nst_by_definition(leaf, teacher)
    torch.testing.assert_close(found.double(), expected, rtol=1e-5, atol=1e-7)
    gradients = [torch.autograd.grad(loss, leaf)[0] for loss in (found, expected)]
    torch.testing.assert_close(*gradients, rtol=1e-4, atol=1e-7)


def test_vids_modules_have_the_published_names_and_its_variance_starts_at_five() -> None:
    module = GaussianRegressor(64, 128)
    found = [[name, list(parameter.shape)] for name, parameter in module.named_parameters()]
    assert found == LOSSES["vid"]["parameters"]
    torch.testing.assert_close(F.softplus(module.log_scale) + 1e-5, torch.full((128,), 5.0))


@given(st.integers(0, 1000), st.integers(2, 12), st.floats(0.5, 8))
def test_dkds_parts_make_up_kd(seed: int, classes: int, temperature: float) -> None:
    """The paper's decomposition, image by image: KD = TCKD + (1 - p) NCKD."""
    student, teacher = 3 * tensor(seed, 1, classes).double(), 3 * tensor(seed + 1, 1, classes).double()
    target = labels(seed, 1, classes)
    tckd, nckd = decoupled_divergences(student, teacher, target, temperature)
    p = F.softmax(teacher / temperature, dim=1)[0, target[0]]
    torch.testing.assert_close(tckd + (1 - p) * nckd, kd_divergence(student, teacher, temperature))
