"""Rotation prediction (Gidaris et al., ICLR 2018): classify the rotation of a view (4 classes)."""

from typing import Any

from torch import Tensor, nn
from torch.nn import functional as F

from sskd.data.batch import Batch
from sskd.data.views import Rotations, ViewTransform
from sskd.losses import kd_divergence
from sskd.pretext.base import PRETEXTS, Pretext, PretextContext, Transfer, TransferConfig


@PRETEXTS.register("rotation")
class Rotation(Pretext):
    """Head: a linear classifier of the four rotations, on all four views. The transfer uses all predictions; only the
    contrastive task selects some."""

    title = "Rotation"
    ignores = frozenset({"ss_keep"})

    def __init__(self, settings: Any, context: PretextContext) -> None:
        super().__init__(settings, context)
        self.classifier = nn.Linear(context.embed_dim, Rotations.views_per_image)

    @classmethod
    def view_transform(cls, settings: Any) -> ViewTransform:
        return Rotations()

    def forward(self, pooled: Tensor) -> Tensor:
        return self.classifier(pooled)

    def loss(self, output: Tensor, batch: Batch) -> tuple[Tensor, Tensor]:
        assert batch.view_labels is not None
        right = (output.argmax(1) == batch.view_labels).float().mean()
        return F.cross_entropy(output, batch.view_labels), right

    def transfer(self, student: Tensor, teacher: Tensor, batch: Batch, config: TransferConfig) -> Transfer:
        assert batch.view_labels is not None
        right = (teacher.argmax(1) == batch.view_labels).float().mean()
        loss = kd_divergence(student, teacher, config.temperature, kind=config.divergence)
        return Transfer(loss, {"head_accuracy": right})
