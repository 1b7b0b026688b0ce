"""Rotation prediction (Gidaris et al., ICLR 2018): classify the rotation of a view (4 classes)."""

from typing import Any, ClassVar

from torch import Tensor, nn
from torch.nn import functional as F

from sskd.data.batch import Batch
from sskd.data.views import Rotations, ViewTransform
from sskd.losses import kd_divergence
from sskd.pretext.base import PRETEXTS, Pretext, PretextContext, Transfer, TransferConfig


class ViewClassifier(Pretext):
    """Head: a linear classifier of the views' labels. The transfer uses all predictions; only the contrastive task
    selects some."""

    ignores = frozenset({"ss_keep"})
    outputs: ClassVar[int]

    def __init__(self, settings: Any, context: PretextContext) -> None:
        super().__init__(settings, context)
        self.classifier = nn.Linear(context.embed_dim, self.outputs)

    def forward(self, pooled: Tensor) -> Tensor:
        return self.classifier(pooled)

    def classified(self, rows: Tensor, batch: Batch) -> Tensor:
        """Returns the rows (V * B, ...) of the views that are classified; by default all."""
        return rows

    def loss(self, output: Tensor, batch: Batch) -> tuple[Tensor, Tensor]:
        assert batch.view_labels is not None
        scores, target = self.classified(output, batch), self.classified(batch.view_labels, batch)
        return F.cross_entropy(scores, target), (scores.argmax(1) == target).float().mean()

    def transfer(self, student: Tensor, teacher: Tensor, batch: Batch, config: TransferConfig) -> Transfer:
        assert batch.view_labels is not None
        student, teacher = self.classified(student, batch), self.classified(teacher, batch)
        right = (teacher.argmax(1) == self.classified(batch.view_labels, batch)).float().mean()
        loss = kd_divergence(student, teacher, config.temperature, kind=config.divergence)
        return Transfer(loss, {"head_accuracy": right})


@PRETEXTS.register("rotation")
class Rotation(ViewClassifier):
    """Classifies the rotations of all four views."""

    title = "Rotation"
    outputs = Rotations.views_per_image

    @classmethod
    def view_transform(cls, settings: Any) -> ViewTransform:
        return Rotations()
