"""From networks' features to the weighted total: the golden losses through ``Method.forward``."""

import math
from collections.abc import Sequence

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from sskd.losses import softened_divergence
from sskd.methods import Method
from sskd.methods.cc import CC
from sskd.methods.fitnet import FitNet
from sskd.methods.vid import VID
from sskd.networks import Features, FeatureShapes
from tests.golden import LOSSES, tensor
from tests.methods.stand_ins import CLASSES, batch_of, build

BATCH = 12
STUDENT = [tensor(10, 12, 16, 16, 16), tensor(11, 12, 32, 8, 8), tensor(12, 12, 64, 4, 4)]
EQUAL = [tensor(20, 12, 16, 16, 16), tensor(21, 12, 32, 8, 8), tensor(22, 12, 64, 4, 4)]
WIDER = [tensor(30, 12, 32, 8, 8), tensor(31, 12, 64, 8, 8), tensor(32, 12, 128, 8, 8)]
VECTOR, EQUAL_VECTOR, WIDER_VECTOR = tensor(40, 12, 64), tensor(41, 12, 64), tensor(42, 12, 128)
FIRST = tensor(7, 12, 4, 16, 16)

Side = tuple[Sequence[Tensor], Tensor]  # maps after the first, which no method here uses, and pooled vector
Case = tuple[str, str, float, Side, Side]  # method, golden entry, published weight, student, teacher

CASES: list[Case] = [
    ("fitnet", "fitnet_mse", 100, (STUDENT, VECTOR), (EQUAL, EQUAL_VECTOR)),
    ("at", "at", 1000, (STUDENT, VECTOR), (EQUAL, EQUAL_VECTOR)),
    ("at", "at_other_sizes", 1000, (STUDENT, VECTOR), (WIDER, WIDER_VECTOR)),
    ("sp", "sp", 3000, (STUDENT, VECTOR), (WIDER, WIDER_VECTOR)),
    ("cc", "cc", 0.02, (STUDENT, VECTOR), (EQUAL, EQUAL_VECTOR)),
    ("vid", "vid", 1, (STUDENT[2:], VECTOR), (WIDER[2:], WIDER_VECTOR)),
    ("rkd", "rkd", 1, (STUDENT, VECTOR), (WIDER, WIDER_VECTOR)),
    ("pkt", "pkt", 30000, (STUDENT, VECTOR), (WIDER, WIDER_VECTOR)),
    ("nst", "nst", 50, (STUDENT, VECTOR), (WIDER, WIDER_VECTOR)),
]


def features(logits: Tensor, side: Side) -> Features:
    maps, vector = side
    taps = (FIRST, *maps, vector)
    return Features(logits, taps, taps)


def shapes(features: Features) -> FeatureShapes:
    return FeatureShapes("network", tuple(tuple(tap.shape[1:]) for tap in features.taps))


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


@pytest.mark.parametrize("kd_weight", [0.0, 1.0])
@pytest.mark.parametrize("case", CASES, ids=[case[1] for case in CASES])
def test_total_is_cross_entropy_and_kd_and_the_weighted_golden_loss(case: Case, kd_weight: float) -> None:
    name, golden, weight, student, teacher = case
    student_features = features(3 * tensor(1, BATCH, CLASSES), student)
    teacher_features = features(3 * tensor(2, BATCH, CLASSES), teacher)
    width = {"width": 64} if name == "cc" else {}
    method = build(name, shapes(student_features), shapes(teacher_features), kd_weight=kd_weight, **width)
    set_golden_parameters(method)
    batch = batch_of(BATCH)
    total, terms = method(student_features, teacher_features, batch)

    expected = F.cross_entropy(student_features.logits, batch.labels).item() + weight * LOSSES[golden]["loss"]
    if kd_weight:
        expected += softened_divergence(student_features.logits, teacher_features.logits, 4.0).item()
        assert math.isclose(terms.losses["kd"].item(), LOSSES["kd_T4"]["loss"], rel_tol=1e-5)
    assert terms.losses.keys() == {"ce", name} | ({"kd"} if kd_weight else set())
    assert math.isclose(terms.losses[name].item(), LOSSES[golden]["loss"], rel_tol=1e-5)
    assert math.isclose(total.item(), expected, rel_tol=1e-5)


@pytest.mark.parametrize("case", CASES, ids=[case[1] for case in CASES])
def test_features_are_left_as_they_are(case: Case) -> None:
    name, _, _, student, teacher = case
    student_features = features(tensor(1, BATCH, CLASSES).requires_grad_(), student)
    teacher_features = features(tensor(2, BATCH, CLASSES), teacher)
    before = [tap.clone() for tap in (*student_features.taps, *teacher_features.taps)]
    build(name, shapes(student_features), shapes(teacher_features), kd_weight=1.0)(
        student_features, teacher_features, batch_of(BATCH)
    )[0].backward()
    assert all(
        torch.equal(now, then)
        for now, then in zip((*student_features.taps, *teacher_features.taps), before, strict=True)
    )
