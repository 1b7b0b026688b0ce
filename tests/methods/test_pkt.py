"""PKT."""

import pytest
import torch

from sskd.methods.pkt import neighbour_probabilities, probability_loss
from tests.golden import assert_golden, tensor
from tests.methods.pairs import PAIRS
from tests.methods.stand_ins import assert_learns


def test_loss_and_gradient_are_the_published_ones() -> None:
    student = tensor(40, 12, 64).requires_grad_()
    assert_golden("pkt", probability_loss(student, tensor(42, 12, 128)), [student])


@pytest.mark.parametrize(("teacher", "student"), PAIRS)
def test_learns_in_every_pair_of_the_paper(teacher: str, student: str) -> None:
    assert_learns("pkt", teacher, student)


def test_rows_are_probabilities_and_lengths_do_not_matter() -> None:
    vectors = tensor(1, 6, 8)
    found = neighbour_probabilities(vectors)
    assert (found >= 0).all()
    torch.testing.assert_close(found.sum(dim=1), torch.ones(6))
    torch.testing.assert_close(neighbour_probabilities(vectors * torch.arange(1.0, 7.0)[:, None]), found)
    assert probability_loss(vectors, vectors).abs() < 1e-8


def test_an_image_whose_features_are_all_zero_gives_finite_gradients() -> None:
    vectors = tensor(1, 6, 8)
    vectors[2] = 0
    vectors.requires_grad_()
    loss = probability_loss(vectors, tensor(2, 6, 8))
    assert torch.autograd.grad(loss, vectors)[0].isfinite().all()
