"""CC."""

import pytest
import torch

from sskd.methods.cc import CC, correlation_loss
from tests.golden import assert_golden, tensor
from tests.methods.pairs import PAIRS, published_shapes
from tests.methods.stand_ins import assert_learns, batch_of, build, features_of


def test_loss_and_gradient_are_the_published_ones() -> None:
    student = tensor(40, 12, 64).requires_grad_()
    assert_golden("cc", correlation_loss(student, tensor(41, 12, 64)), [student])


@pytest.mark.parametrize(("teacher", "student"), PAIRS)
def test_learns_in_every_pair_of_the_paper(teacher: str, student: str) -> None:
    assert_learns("cc", teacher, student)


def test_term_is_the_loss_of_the_embeddings() -> None:
    student_shapes, teacher_shapes = published_shapes("MobileNetV2"), published_shapes("vgg13")
    method = build("cc", student_shapes, teacher_shapes)
    assert isinstance(method, CC)
    student, teacher = features_of(student_shapes, 4, 1, True), features_of(teacher_shapes, 4, 2, False)
    found = method.loss_terms(student, teacher, batch_of(4)).losses["cc"]
    embed_s, embed_t = method.embed_student(student.vector), method.embed_teacher(teacher.vector)
    assert embed_s.shape == embed_t.shape == (4, 128)
    torch.testing.assert_close(found, correlation_loss(embed_s, embed_t))
