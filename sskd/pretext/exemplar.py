"""Exemplar (Dosovitskiy et al., NeurIPS 2014): each training image is a class."""

from functools import partial
from typing import Any, ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.checkpoint import checkpoint

from sskd.data.batch import Batch
from sskd.data.transformations import TRANSFORMATIONS
from sskd.data.views import ViewTransform
from sskd.losses import kd_divergence
from sskd.pretext.base import PRETEXTS, Pretext, PretextContext, Transfer, TransferConfig

# the losses draw no random numbers; preserving the random state would synchronise host and GPU
recomputed = partial(checkpoint, use_reentrant=False, preserve_rng_state=False)
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

    @classmethod
    def view_transform(cls, settings: Any) -> ViewTransform:
        return TRANSFORMATIONS[settings.transformation]

    def forward(self, pooled: Tensor) -> Tensor:
        return self.classifier(pooled)

    def loss(self, output: Tensor, batch: Batch) -> tuple[Tensor, Tensor]:
        target = batch.indices.repeat_interleave(batch.views_per_image)
        rows = max(1, BLOCK_SCORES // output.shape[1])
        parts = [
            recomputed(F.cross_entropy, scores, rows_target, reduction="sum")
            for scores, rows_target in zip(output.split(rows), target.split(rows), strict=True)
        ]
        return torch.stack(parts).sum() / len(output), (output.argmax(1) == target).float().mean()

    def transfer(self, student: Tensor, teacher: Tensor, batch: Batch, config: TransferConfig) -> Transfer:
        rows = max(1, BLOCK_SCORES // student.shape[1])
        parts = [
            recomputed(_divergence_sum, student_rows, teacher_rows, config)
            for student_rows, teacher_rows in zip(student.split(rows), teacher.split(rows), strict=True)
        ]
        return Transfer(torch.stack(parts).sum() / len(student), {})


def _divergence_sum(student: Tensor, teacher: Tensor, config: TransferConfig) -> Tensor:
    return kd_divergence(student, teacher, config.temperature, kind=config.divergence) * len(student)
