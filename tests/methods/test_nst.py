"""NST."""

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from sskd.errors import UserError
from sskd.methods.nst import all_taps_loss, selectivity_loss
from tests.golden import assert_golden, tensor
from tests.methods.pairs import PAIRS, published_shapes
from tests.methods.stand_ins import assert_learns, build


def test_loss_and_gradient_are_the_published_ones() -> None:
    student = [tensor(10, 12, 16, 16, 16), tensor(11, 12, 32, 8, 8), tensor(12, 12, 64, 4, 4)]
    teacher = [tensor(30, 12, 32, 8, 8), tensor(31, 12, 64, 8, 8), tensor(32, 12, 128, 8, 8)]
    leaves = [maps.requires_grad_() for maps in student]
    assert_golden("nst", all_taps_loss(leaves, teacher), leaves)


@pytest.mark.parametrize(("teacher", "student"), PAIRS)
def test_learns_in_every_pair_of_the_paper(teacher: str, student: str) -> None:
    assert_learns("nst", teacher, student)


def by_definition(student: Tensor, teacher: Tensor) -> Tensor:
    def kernel(a: Tensor, b: Tensor) -> Tensor:
        unit_a, unit_b = (F.normalize(maps.double().flatten(2), dim=2) for maps in (a, b))
        return (unit_a[:, :, None] * unit_b[:, None]).sum(dim=3).pow(2).mean()

    return kernel(teacher, teacher) + kernel(student, student) - 2 * kernel(student, teacher)


@pytest.mark.parametrize("widths", [(3, 5), (20, 4), (4, 20), (16, 16)])  # fewer and more channels than positions
def test_both_ways_of_summing_are_the_definition(widths: tuple[int, int]) -> None:
    student, teacher = (tensor(k, 3, width, 4, 4).relu() for k, width in enumerate(widths))
    leaf = student.requires_grad_()
    found, expected = selectivity_loss(leaf, teacher), by_definition(leaf, teacher)
    torch.testing.assert_close(found.double(), expected, rtol=1e-5, atol=1e-7)
    gradients = [torch.autograd.grad(loss, leaf)[0] for loss in (found, expected)]
    torch.testing.assert_close(*gradients, rtol=1e-4, atol=1e-7)


def test_channels_may_come_in_any_order_and_scale() -> None:
    maps = tensor(1, 3, 5, 4, 4).abs()
    assert selectivity_loss(2 * maps.flip(1), maps).abs() < 1e-6


def test_networks_with_unequal_numbers_of_taps_are_an_error_at_planning_time() -> None:
    with pytest.raises(UserError, match=r"'nst'.*resnet20 has 3 and vgg13 has 4"):
        build("nst", published_shapes("resnet20"), published_shapes("vgg13"))
