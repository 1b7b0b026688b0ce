"""Selective transfer: what is kept, for any ranks and any ratio."""

from fractions import Fraction

import torch
from hypothesis import example, given
from hypothesis import strategies as st

from sskd.losses import kd_divergence
from sskd.pretext.selection import keep_mask, ranks

RANKS = st.lists(st.integers(0, 20), min_size=1, max_size=60)
PERCENT = st.integers(0, 100)


@given(RANKS, PERCENT)
@example([1] * 50, 58)  # 0.58 * 50 is 28.999999999999996
def test_keeps_all_right_and_the_least_wrong(values: list[int], percent: int) -> None:
    rank = torch.tensor(values)
    kept = keep_mask(rank, percent / 100)
    right, wrong = rank == 0, rank > 0
    assert kept[right].all()
    assert (kept & wrong).sum() == int(Fraction(percent, 100) * int(wrong.sum()))
    best_dropped = min(((r, i) for i, (r, k) in enumerate(zip(values, kept, strict=True)) if not k), default=None)
    worst_kept = max(((r, i) for i, (r, k) in enumerate(zip(values, kept, strict=True)) if k), default=None)
    if best_dropped and worst_kept:
        assert worst_kept < best_dropped  # by rank, ties to the earlier row


@given(st.lists(st.integers(0, 2), min_size=2, max_size=6), st.integers(0, 5))
def test_rank_is_the_number_of_better_answers(scores: list[int], right: int) -> None:
    """Equal scores count in favour of the right answer."""
    right %= len(scores)
    better = sum(score > scores[right] for score in scores)
    assert ranks(torch.tensor([scores], dtype=torch.float32), torch.tensor([right])).tolist() == [better]


def test_nothing_kept_gives_zero_and_no_gradient() -> None:
    student = torch.randn(4, 5, requires_grad=True)
    loss = kd_divergence(student, torch.randn(4, 5), 2.0, torch.zeros(4, dtype=torch.bool))
    (gradient,) = torch.autograd.grad(loss, student)
    assert loss.item() == 0
    assert gradient.abs().sum() == 0
