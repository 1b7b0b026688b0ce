"""Contrastive prediction (SSKD's own task): which normal image does a transformed view come from?"""

from typing import Any, ClassVar

from pydantic import PositiveFloat
from torch import Tensor, nn
from torch.nn import functional as F

from sskd.config.settings import PretextSettings
from sskd.data.batch import Batch
from sskd.data.transformations import TRANSFORMATIONS
from sskd.data.views import ViewTransform
from sskd.losses import kd_divergence
from sskd.pretext.base import PRETEXTS, Pretext, PretextContext, Transfer, TransferConfig
from sskd.pretext.selection import keep_mask, ranks, transformed
from sskd.runtime.device import cached_repeat_interleave


class Settings(PretextSettings):
    temperature: PositiveFloat = 1.0
    """The temperature of the teacher head's loss. The paper's equation has one, the published code uses 1."""


def similarity(output: Tensor, views: int) -> Tensor:
    """Cosines between transformed views and normal ones: (V * B, d) float32 to ((V - 1) * B, B)."""
    unit = F.normalize(output, dim=1)
    return transformed(unit, views) @ unit[::views].T


def positive_index(scores: Tensor) -> Tensor:
    """The right column of each row of a similarity matrix ((V - 1) * B, B), the image that the view was made from:
    ((V - 1) * B,) int64."""
    images = scores.shape[1]
    return cached_repeat_interleave(images, scores.shape[0] // images, scores.device)


@PRETEXTS.register("contrastive")
class Contrastive(Pretext):
    """Which normal image of the batch was this view made from? Head: linear, ReLU, linear, as wide as its input."""

    Settings: ClassVar[type[PretextSettings]] = Settings
    title = "Contrastive"

    def __init__(self, settings: Any, context: PretextContext) -> None:
        super().__init__(settings, context)
        width = context.embed_dim
        self.layers = nn.Sequential(nn.Linear(width, width), nn.ReLU(inplace=True), nn.Linear(width, width))

    @classmethod
    def view_transform(cls, settings: Any) -> ViewTransform:
        return TRANSFORMATIONS[settings.transformation]

    def forward(self, vector: Tensor) -> Tensor:
        return self.layers(vector)

    def loss(self, output: Tensor, batch: Batch) -> tuple[Tensor, Tensor]:
        """Cross-entropy over the images of the batch, and the share of views whose own image scores highest."""
        scores = similarity(output, batch.views_per_image)
        target = positive_index(scores)
        right = (scores.argmax(1) == target).float().mean()
        return F.cross_entropy(scores / self.settings.temperature, target), right

    def transfer(self, student: Tensor, teacher: Tensor, batch: Batch, config: TransferConfig) -> Transfer:
        """L_ss between the rows of the two similarity matrices, selected by the teacher's ranks (paper, equation 6)."""
        teacher_similarity = similarity(teacher, batch.views_per_image)
        rank = ranks(teacher_similarity, positive_index(teacher_similarity))
        kept = keep_mask(rank, config.keep)
        loss = kd_divergence(
            similarity(student, batch.views_per_image), teacher_similarity, config.temperature, kept, config.divergence
        )
        return Transfer(loss, {"head_accuracy": (rank == 0).float().mean(), "ss_kept": kept.float().mean()})
