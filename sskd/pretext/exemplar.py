"""Exemplar (Dosovitskiy et al., NeurIPS 2014): every training image is a class of its own."""

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

# losses draw nothing: keeping the random state for a second pass would make the host wait for a GPU
computed_again = partial(checkpoint, use_reentrant=False, preserve_rng_state=False)
CLASSES_AT_ONCE = 2**21  # scores that are worked on together: 8 MB of float32 in each intermediate result


@PRETEXTS.register("exemplar")
class Exemplar(Pretext):
    """Head: a linear classifier with one class for each of the N training images, on all views of an image.

    N may be 50,000 and more: losses go through the scores in blocks of rows and compute each block again for the
    gradient, so that only the scores themselves are held. Transfer without
    selection. Test images have no class, so nothing is measured on them.
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

    def forward(self, vector: Tensor) -> Tensor:
        return self.classifier(vector)

    def loss(self, output: Tensor, batch: Batch) -> tuple[Tensor, Tensor]:
        target = batch.indices.repeat_interleave(batch.views_per_image)
        rows = max(1, CLASSES_AT_ONCE // output.shape[1])
        parts = [
            computed_again(_cross_entropy_sum, scores, wanted)
            for scores, wanted in zip(output.split(rows), target.split(rows), strict=True)
        ]
        return torch.stack(parts).sum() / len(output), (output.argmax(1) == target).float().mean()

    def transfer(self, student: Tensor, teacher: Tensor, batch: Batch, config: TransferConfig) -> Transfer:
        rows = max(1, CLASSES_AT_ONCE // student.shape[1])
        parts = [
            computed_again(_divergence_sum, student_rows, teacher_rows, config)
            for student_rows, teacher_rows in zip(student.split(rows), teacher.split(rows), strict=True)
        ]
        return Transfer(torch.stack(parts).sum() / len(student), {})


def _cross_entropy_sum(scores: Tensor, target: Tensor) -> Tensor:
    return F.cross_entropy(scores, target, reduction="sum")


def _divergence_sum(student: Tensor, teacher: Tensor, config: TransferConfig) -> Tensor:
    return kd_divergence(student, teacher, config.temperature, kind=config.divergence) * len(student)
