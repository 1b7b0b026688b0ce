"""FitNet."""

import pytest
import torch

from sskd.errors import UserError
from sskd.methods.fitnet import FitNet, hint_loss
from sskd.networks import FeatureShapes
from tests.golden import assert_golden, tensor
from tests.methods.pairs import PAIRS, published_shapes
from tests.methods.stand_ins import assert_learns, batch_of, build, features_of


def test_loss_and_gradient_are_the_published_ones() -> None:
    student = tensor(11, 12, 32, 8, 8).requires_grad_()
    assert_golden("fitnet_mse", hint_loss(student, tensor(21, 12, 32, 8, 8)), [student])


@pytest.mark.parametrize(("teacher", "student"), PAIRS)
def test_learns_in_every_pair_of_the_paper(teacher: str, student: str) -> None:
    assert_learns("fitnet", teacher, student)


def test_term_is_the_loss_of_the_chosen_taps_regression() -> None:
    shapes = published_shapes("resnet20")
    method = build("fitnet", shapes, shapes, tap=1)
    assert isinstance(method, FitNet)
    student, teacher = features_of(shapes, 4, 1, True), features_of(shapes, 4, 2, False)
    found = method.loss_terms(student, teacher, batch_of(4)).losses["fitnet"]
    regressed = method.regressor(student.taps[1])
    assert regressed.min() == 0  # it ends in a ReLU, as the teacher's tap does
    torch.testing.assert_close(found, hint_loss(regressed, teacher.taps[1]))
    assert method.loss_weights == {"fitnet": 100.0}


def test_a_tap_that_is_no_map_is_an_error_at_planning_time() -> None:
    shapes = published_shapes("resnet20")
    with pytest.raises(UserError, match=r"resnet20 has no map at tap 4; set tap between 0 and 3"):
        build("fitnet", shapes, shapes, tap=4)


def test_sizes_without_a_regressor_are_an_error_at_planning_time() -> None:
    student_shapes = FeatureShapes("small", ((8, 8, 8), (8, 8, 8), (8, 5, 5), (8,)))
    teacher_shapes = FeatureShapes("large", ((8, 8, 8), (8, 8, 8), (8, 8, 8), (8,)))
    with pytest.raises(UserError, match=r"'fitnet', tap 2 of small and large"):
        build("fitnet", student_shapes, teacher_shapes)
