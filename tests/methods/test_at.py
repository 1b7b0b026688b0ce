"""AT."""

import pytest
import torch

from sskd.errors import UserError
from sskd.methods.at import attention_loss
from tests.golden import assert_golden, tensor
from tests.methods.pairs import PAIRS, published_shapes
from tests.methods.stand_ins import assert_learns, build

SHAPES = [(16, 16, 16), (32, 8, 8), (64, 4, 4)]
WIDER = [(32, 8, 8), (64, 8, 8), (128, 8, 8)]


@pytest.mark.parametrize(("golden", "first", "shapes"), [("at", 20, SHAPES), ("at_other_sizes", 30, WIDER)])
def test_loss_and_gradient_are_the_published_ones(golden: str, first: int, shapes: list[tuple[int, int, int]]) -> None:
    student = [tensor(10 + i, 12, *shape).requires_grad_() for i, shape in enumerate(SHAPES)]
    teacher = [tensor(first + i, 12, *shape) for i, shape in enumerate(shapes)]
    assert_golden(golden, attention_loss(student, teacher), student)


@pytest.mark.parametrize(("teacher", "student"), PAIRS)
def test_learns_in_every_pair_of_the_paper(teacher: str, student: str) -> None:
    assert_learns("at", teacher, student)


def test_memory_layout_changes_nothing() -> None:
    maps, other = tensor(10, 4, 16, 8, 8), tensor(11, 4, 16, 8, 8)
    last = maps.contiguous(memory_format=torch.channels_last)
    torch.testing.assert_close(attention_loss([last], [other]), attention_loss([maps], [other]))
    assert attention_loss([last], [maps]) < 1e-12


def test_networks_with_unequal_numbers_of_taps_are_an_error_at_planning_time() -> None:
    with pytest.raises(UserError, match=r"resnet20 has 3 and vgg13 has 4"):
        build("at", published_shapes("resnet20"), published_shapes("vgg13"))
