"""RKD."""

import math

import pytest
import torch
from torch import Tensor

from sskd.methods.rkd import distances_and_cosines, relational_loss
from tests.golden import assert_golden, tensor
from tests.methods.pairs import PAIRS
from tests.methods.stand_ins import assert_learns


def test_loss_and_gradient_are_the_published_ones() -> None:
    student = tensor(40, 12, 64).requires_grad_()
    assert_golden("rkd", relational_loss(student, tensor(42, 12, 128), 25.0, 50.0), [student])


@pytest.mark.parametrize(("teacher", "student"), PAIRS)
def test_learns_in_every_pair_of_the_paper(teacher: str, student: str) -> None:
    assert_learns("rkd", teacher, student)


def test_geometry_of_a_right_angled_triangle() -> None:
    distances, cosines = distances_and_cosines(torch.tensor([[0.0, 0.0], [3.0, 0.0], [0.0, 4.0]]))
    torch.testing.assert_close(distances, torch.tensor([[0.0, 3, 4], [3, 0, 5], [4, 5, 0]]) / 4)  # 4: the mean
    assert cosines[0, 1, 2] == 0
    torch.testing.assert_close(cosines[1, 0, 2].item(), 0.6)
    torch.testing.assert_close(cosines[2, 0, 1].item(), 0.8)


def moved(points: Tensor) -> Tensor:
    """Turned, scaled and shifted: the same relations."""
    turn = torch.tensor([[math.cos(1), -math.sin(1)], [math.sin(1), math.cos(1)]])
    return 3 * points @ turn + 5


def test_only_relations_count() -> None:
    points = tensor(1, 6, 2)
    assert relational_loss(moved(points), points, 25.0, 50.0) < 1e-8
    assert relational_loss(points.flip(0), points, 25.0, 50.0) > 1e-2


@pytest.mark.parametrize("equal", [2, 6])
def test_images_with_equal_features_give_finite_gradients(equal: int) -> None:
    points = tensor(1, 6, 8)
    points[:equal] = points[0]
    points.requires_grad_()
    loss = relational_loss(points, tensor(2, 6, 8), 25.0, 50.0)
    assert loss.isfinite()
    assert torch.autograd.grad(loss, points)[0].isfinite().all()
