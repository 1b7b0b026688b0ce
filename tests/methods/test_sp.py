"""SP."""

import pytest
import torch

from sskd.methods.sp import similarities, similarity_loss
from tests.golden import assert_golden, tensor
from tests.methods.pairs import PAIRS
from tests.methods.stand_ins import assert_learns


def test_loss_and_gradient_are_the_published_ones() -> None:
    student = tensor(12, 12, 64, 4, 4).requires_grad_()
    assert_golden("sp", similarity_loss(student, tensor(32, 12, 128, 8, 8)), [student])


@pytest.mark.parametrize(("teacher", "student"), PAIRS)
def test_learns_in_every_pair_of_the_paper(teacher: str, student: str) -> None:
    assert_learns("sp", teacher, student)


def test_only_similarities_count() -> None:
    maps = tensor(1, 5, 3, 4, 4)
    shuffled = 2 * maps.flip(1, 3)  # the same inner products, four times as large
    torch.testing.assert_close(similarities(shuffled), similarities(maps))
    assert similarity_loss(shuffled, maps) < 1e-12
    assert similarity_loss(torch.roll(maps, 1, dims=0), maps) > 1e-3
