"""Selective transfer (paper, section 3.3): uses the teacher's right predictions and the best ranked of the wrong ones.

No tensor shape depends on the number of selected rows, so no step synchronises host and device.
"""

import torch
from torch import Tensor

from sskd.runtime.device import cached_arange


def ranks(scores: Tensor, target: Tensor) -> Tensor:
    """Returns the rank (R,) int64 of the target in each row: the number of columns with a higher score. 0 is a right
    prediction. scores: (R, K). target: (R,) int64."""
    right = scores.gather(1, target[:, None])
    return (scores > right).sum(1)


def keep_mask(rank: Tensor, ratio: float) -> Tensor:
    """Selects rows by their ranks (R,) int64; returns (R,) bool. It selects all rows of rank 0, and floor(ratio * w) of
    the w others, those with the smallest rank; of equal ranks, the earlier row comes first."""
    wrong = (rank > 0).sum()
    # 1e-6, because 0.29 * 100 is 28.999999999999996 in floating point
    kept_wrong = (ratio * wrong.double() + 1e-6).floor().long()
    order = torch.argsort(rank, stable=True)
    place = torch.empty_like(order).scatter_(0, order, cached_arange(len(rank), rank.device))
    return place < len(rank) - wrong + kept_wrong


def transformed(rows: Tensor, views: int) -> Tensor:
    """Returns the rows of the transformed views, without each image's normal view: (V * B, ...) to ((V - 1) * B,
    ...)."""
    return rows.unflatten(0, (-1, views))[:, 1:].flatten(0, 1)
