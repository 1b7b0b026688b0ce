"""DKD."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.nn import functional as F

from sskd.losses import softened_divergence
from sskd.methods.dkd import decoupled_divergences
from tests.golden import assert_golden, labels, tensor
from tests.methods.pairs import PAIRS, published_shapes
from tests.methods.stand_ins import assert_learns, build


@pytest.mark.parametrize(("teacher", "student"), PAIRS)
def test_learns_in_every_pair_of_the_paper(teacher: str, student: str) -> None:
    assert_learns("dkd", teacher, student, {"tckd", "nckd"})


@given(st.integers(0, 1000), st.integers(2, 12), st.floats(0.5, 8))
def test_the_parts_make_up_kd(seed: int, classes: int, temperature: float) -> None:
    """The paper's decomposition, image by image: KD = TCKD + (1 - p) NCKD."""
    student, teacher = 3 * tensor(seed, 1, classes).double(), 3 * tensor(seed + 1, 1, classes).double()
    target = labels(seed, 1, classes)
    tckd, nckd = decoupled_divergences(student, teacher, target, temperature)
    p = F.softmax(teacher / temperature, dim=1)[0, target[0]]
    torch.testing.assert_close(tckd + (1 - p) * nckd, softened_divergence(student, teacher, temperature))


def test_the_parts_reproduce_kds_golden_loss_and_gradient() -> None:
    student = (3 * tensor(1, 12, 100)).requires_grad_()
    teacher, target = 3 * tensor(2, 12, 100), labels(3, 12, 100)
    p = F.softmax(teacher / 4, dim=1).gather(1, target[:, None])
    rows = [decoupled_divergences(student[i : i + 1], teacher[i : i + 1], target[i : i + 1], 4.0) for i in range(12)]
    losses = [tckd + (1 - p[i, 0]) * nckd for i, (tckd, nckd) in enumerate(rows)]
    assert_golden("kd_T4", torch.stack(losses).mean(), [student])


def test_parts_are_those_of_the_definition() -> None:
    student, teacher = torch.tensor([[1.0, 2.0, 0.0]]), torch.tensor([[3.0, 1.0, 1.0]])
    tckd, nckd = decoupled_divergences(student, teacher, torch.tensor([0]), 1.0)
    p_s, p_t = (F.softmax(logits, dim=1)[0, 0] for logits in (student, teacher))
    torch.testing.assert_close(tckd, p_t * (p_t / p_s).log() + (1 - p_t) * ((1 - p_t) / (1 - p_s)).log())
    rest_s = F.softmax(torch.tensor([2.0, 0.0]), dim=0)
    torch.testing.assert_close(nckd, (0.5 * (0.5 / rest_s).log()).sum())


def test_confident_predictions_give_finite_gradients() -> None:
    student = torch.tensor([[200.0, 0.0, 0.0], [0.0, 200.0, 0.0]]).requires_grad_()
    loss = sum(decoupled_divergences(student, -student.detach(), torch.tensor([0, 0]), 4.0), torch.tensor(0.0))
    assert torch.autograd.grad(loss, student)[0].isfinite().all()


def test_default_weights_are_the_authors() -> None:
    shapes = published_shapes("resnet20")
    assert build("dkd", shapes, shapes).loss_weights == {"tckd": 1.0, "nckd": 8.0}
