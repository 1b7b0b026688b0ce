"""SSKD beside its golden values: ranks, logged values, terms of weight zero, and the divergence."""

import pytest
import torch

from sskd.data.views import Rotations, SingleView
from tests.methods.given import Given
from tests.methods.golden_networks import VIEWED, contrastive, sskd, sskd_sides, viewed

STUDENT, TEACHER = sskd_sides(Given(torch.float32))


def test_what_is_logged() -> None:
    """The golden ranks have seventeen zeros, and floor(0.75 * 7) = 5 of the wrong ones are kept."""
    _, terms = sskd()(STUDENT, TEACHER, viewed(VIEWED))
    assert set(terms.losses) == {"ce", "kd", "t", "ss"}
    logged = {name: value.item() for name, value in terms.logged.items()}
    assert logged == pytest.approx({"head_accuracy": 17 / 24, "ss_kept": 22 / 24, "t_kept": 1.0})
    _, right = contrastive().loss(TEACHER.pooled, viewed(VIEWED))
    assert right.item() == pytest.approx(17 / 24)


@pytest.mark.parametrize(("absent", "views"), [(("ss",), Rotations), (("t",), Rotations), (("ss", "t"), SingleView)])
def test_terms_of_weight_zero_are_not_computed(absent: tuple[str, ...], views: type) -> None:
    method = sskd(**{f"{term}_weight": 0.0 for term in absent})
    assert set(method(STUDENT, TEACHER, viewed(VIEWED))[1].losses) == {"ce", "kd", "t", "ss"} - set(absent)
    assert isinstance(method.view_transform(), views)
    assert hasattr(method, "head") == ("ss" not in absent)


def test_cross_entropy_instead_of_kl_changes_values_and_not_gradients() -> None:
    totals = [sskd(divergence=kind)(STUDENT, TEACHER, viewed(VIEWED))[0] for kind in ("kl", "cross_entropy")]
    assert totals[1] > totals[0] + 1
    learned = STUDENT.logits, STUDENT.pooled
    for found, expected in zip(*(torch.autograd.grad(total, learned) for total in totals), strict=True):
        torch.testing.assert_close(found, expected)
