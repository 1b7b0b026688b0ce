"""Functions of the methods that compare features, where the golden values do not reach: regressors for other sizes,
degenerate features; and what is refused when a run is planned."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from sskd.errors import UserError
from sskd.methods import check_pair
from sskd.methods.dkd import decoupled_divergences
from sskd.methods.feature_maps import check_regressor, regressor
from sskd.methods.pkt import probability_loss
from sskd.methods.rkd import relational_loss
from sskd.networks import FeatureShapes, feature_shapes
from sskd.runs.settings import method_settings
from tests.golden import labels, tensor
from tests.methods.given import batch_like
from tests.methods.shapes import FLAT, build, features_like, published_shapes

MADE = {
    "flat": FLAT,
    "one map": FeatureShapes("one map", ((8, 4, 4),), 8),
    "9 to 3": FeatureShapes("9 to 3", ((8, 9, 9), (8, 3, 3)), 8),
    "9 to 5": FeatureShapes("9 to 5", ((8, 9, 9), (8, 5, 5)), 8),
}


@pytest.mark.parametrize(
    ("name", "student", "teacher", "settings", "match"),
    [
        ("at", "resnet20", "vgg13", {}, "'at'.*resnet20 has 3 and vgg13 has 4"),
        ("nst", "resnet20", "vgg13", {}, "'nst'.*resnet20 has 3 and vgg13 has 4"),
        ("vid", "one map", "one map", {}, "'vid'.*has 0"),
        ("ab", "resnet20", "vgg8", {}, "vgg8"),
        ("ab", "9 to 3", "9 to 5", {}, "'ab', tap 1 of 9 to 3 and 9 to 5: .*3x3.*5x5"),
        ("fsp", "wrn_40_1", "wrn_40_2", {}, r"tap 1 \(from 0\) has 16 in wrn_40_1 and 32 in wrn_40_2"),
        ("fsp", "resnet20", "vgg13", {}, "resnet20 has 3 and vgg13 has 4"),
        ("fitnet", "resnet20", "resnet20", {"tap": 4}, "resnet20 has no map at tap 4; set tap between 0 and 3"),
        ("semckd", "resnet20", "flat", {}, "'semckd'.*flat gives none"),
        ("ofd", "resnet20", "MobileNetV2", {}, "'ofd' pairs|'ofd' needs the batch norm"),
        ("wkdf", "resnet20", "resnet20", {"grid": 8}, "'wkdf'.*grid 8"),
        ("wkdl", "resnet20", "flat", {}, "'wkdl'.*flat.*distances_of"),
        ("hsakd", "resnet20", "vgg8", {}, "resnet20 has 3 and vgg8 has 4"),
        ("hsakd", "resnet18", "resnet34", {}, "no auxiliary classifiers are defined for resnet18"),
    ],
)
def test_what_does_not_fit_is_refused_when_planned(
    name: str, student: str, teacher: str, settings: dict[str, Any], match: str
) -> None:
    shapes = [MADE.get(side) or feature_shapes(side) for side in (student, teacher)]
    with pytest.raises(UserError, match=match):
        check_pair(method_settings(name, **settings), *shapes)


@pytest.mark.parametrize(
    ("student", "teacher", "kind", "kernel"),
    [
        ((16, 16, 16), (32, 8, 8), nn.Conv2d, (3, 3)),
        ((48, 8, 8), (64, 16, 16), nn.ConvTranspose2d, (4, 4)),
        ((32, 16, 16), (32, 16, 16), nn.Conv2d, (1, 1)),
        ((32, 10, 9), (16, 8, 8), nn.Conv2d, (3, 2)),
        ((8, 32, 32), (8, 8, 8), nn.Conv2d, (25, 25)),
    ],
)
@pytest.mark.parametrize("relu", [True, False])
def test_regressor_gives_the_teachers_shape(
    student: tuple[int, ...], teacher: tuple[int, ...], kind: type, kernel: tuple[int, int], relu: bool
) -> None:
    layers = regressor(student, teacher, relu)
    assert (type(layers[0]), layers[0].kernel_size) == (kind, kernel)
    found = layers(tensor(4, 3, *student))
    assert found.shape == (3, *teacher)
    assert (found.min() >= 0) == relu
    before = torch.get_rng_state()
    check_regressor("fitnet", *(FeatureShapes("made", (shape,), 8) for shape in (student, teacher)), 0)
    assert torch.equal(torch.get_rng_state(), before)


def test_fitnets_regressor_of_the_chosen_tap_ends_in_a_relu() -> None:
    shapes = published_shapes("resnet20")
    method: Any = build("fitnet", shapes, shapes, tap=1)
    student, teacher = features_like(shapes), features_like(shapes)
    regressed = method.regressor(student.feature_maps[1])
    assert regressed.min() == 0
    found = method.loss_terms(student, teacher, batch_like(torch.arange(4))).losses["fitnet"]
    torch.testing.assert_close(found, F.mse_loss(regressed, teacher.feature_maps[1]))


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
