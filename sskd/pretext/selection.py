"""Selective transfer (paper, section 3.3): all of the teacher's right predictions, and the least wrong of the rest.

Everything stays on the device; no shape depends on how many are kept.
"""

import torch
from torch import Tensor

from sskd.runtime.device import cached_arange


def ranks(scores: Tensor, target: Tensor) -> Tensor:
    """The place of the right answer in each row, (R,) int64; 0 is a right prediction.

    scores: (R, K). target: (R,) int64, the right columns. The place is the number of answers that score
    higher; equal scores count in favour of the right one.
    """
    right = scores.gather(1, target[:, None])
    return (scores > right).sum(1)


def keep_mask(rank: Tensor, ratio: float) -> Tensor:
    """Which rows are transferred, (R,) bool, from their ranks (R,) int64: all of rank 0, and of the w others the
    floor(ratio * w) with the smallest rank, the earlier row where ranks are equal."""
    wrong = (rank > 0).sum()
    # 0.29 * 100 is 28.999999999999996 in floating point and means 29
    kept_wrong = (ratio * wrong.double() + 1e-6).floor().long()
    order = torch.argsort(rank, stable=True)
    place = torch.empty_like(order).scatter_(0, order, cached_arange(len(rank), rank.device))
    return place < len(rank) - wrong + kept_wrong


def transformed(rows: Tensor, views: int) -> Tensor:
    """The rows of all views but each image's normal one: (V * B, ...) to ((V - 1) * B, ...)."""
    return rows.unflatten(0, (-1, views))[:, 1:].flatten(0, 1)
