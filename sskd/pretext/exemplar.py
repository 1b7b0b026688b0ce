"""Exemplar (Dosovitskiy et al., NeurIPS 2014): each training image is a class."""

from collections.abc import Callable
from functools import partial
from typing import Any, ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.checkpoint import checkpoint

from sskd.data.batch import Batch
from sskd.losses import kd_divergence
from sskd.pretext.base import PRETEXTS, Pretext, PretextContext, Transfer, TransferConfig

BLOCK_SCORES = 2**21  # scores per block: 8 MB of float32 for each intermediate result


@PRETEXTS.register("exemplar")
class Exemplar(Pretext):
    """Head: a linear classifier with one class per training image (N), on all views. The transfer uses all predictions.

    N may exceed 50,000. The losses therefore process blocks of rows and recompute each block in the backward pass, so
    that only the scores are kept in memory. Test images have no class, so the task is not evaluated on them.
    """

    title = "Exemplar"
    ignores = frozenset({"ss_keep"})
    evaluable_on_test: ClassVar[bool] = False

    def __init__(self, settings: Any, context: PretextContext) -> None:
        super().__init__(settings, context)
        self.classifier = nn.Linear(context.embed_dim, context.num_images)

    def forward(self, pooled: Tensor) -> Tensor:
        return self.classifier(pooled)

    def loss(self, output: Tensor, batch: Batch) -> tuple[Tensor, Tensor]:
        target = batch.indices.repeat_interleave(batch.views_per_image)
        loss = _mean_of_rows(partial(F.cross_entropy, reduction="sum"), output, target)
        return loss, (output.argmax(1) == target).float().mean()

    def transfer(self, student: Tensor, teacher: Tensor, batch: Batch, config: TransferConfig) -> Transfer:
        def total(student: Tensor, teacher: Tensor) -> Tensor:
            return kd_divergence(student, teacher, config.temperature, kind=config.divergence) * len(student)

        return Transfer(_mean_of_rows(total, student, teacher), {})


def _mean_of_rows(total: Callable[[Tensor, Tensor], Tensor], scores: Tensor, target: Tensor) -> Tensor:
    """Returns the mean over all rows of a loss, which ``total`` sums over a block of rows of scores (R, N) and target;
    0-d. Each block is computed again in the backward pass."""
    rows = max(1, BLOCK_SCORES // scores.shape[1])
    parts = [
        # the losses draw no random numbers; preserving the random state would synchronise host and GPU
        checkpoint(total, *block, use_reentrant=False, preserve_rng_state=False)
        for block in zip(scores.split(rows), target.split(rows), strict=True)
    ]
    return torch.stack(parts).sum() / len(scores)
