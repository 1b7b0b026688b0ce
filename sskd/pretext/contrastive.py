"""Contrastive prediction, SSKD's pretext task: find the normal image that a transformed view was made from."""

from typing import Any, ClassVar

from pydantic import PositiveFloat
from torch import Tensor, nn
from torch.nn import functional as F

from sskd.config.settings import PretextSettings
from sskd.data.batch import Batch
from sskd.losses import kd_divergence
from sskd.pretext.base import PRETEXTS, Pretext, PretextContext, Transfer, TransferConfig
from sskd.pretext.selection import keep_mask, ranks, transformed
from sskd.runtime.device import cached_arange


class Settings(PretextSettings):
    temperature: PositiveFloat = 1.0
    """Temperature of the loss of the teacher's head (1 in the published code)."""


def similarity(output: Tensor, views: int) -> Tensor:
    """Returns cosine similarities ((V - 1) * B, B) of transformed and normal views, from outputs (V * B, d) float32."""
    unit = F.normalize(output, dim=1)
    return transformed(unit, views) @ unit[::views].T


def positive_index(scores: Tensor) -> Tensor:
    """Returns the column of the positive in each row of similarities ((V - 1) * B, B), which is the image that the view
    was made from: ((V - 1) * B,) int64."""
    images = scores.shape[1]
    return cached_arange(images, scores.device, each=scores.shape[0] // images)


@PRETEXTS.register("contrastive")
class Contrastive(Pretext):
    """Classifies which normal image of the batch a view was made from. Head: linear, ReLU, linear, with D units
    each."""

    Settings: ClassVar[type[PretextSettings]] = Settings
    title = "Contrastive"

    def __init__(self, settings: Any, context: PretextContext) -> None:
        super().__init__(settings, context)
        dim = context.embed_dim
        self.layers = nn.Sequential(nn.Linear(dim, dim), nn.ReLU(inplace=True), nn.Linear(dim, dim))

    def forward(self, pooled: Tensor) -> Tensor:
        return self.layers(pooled)

    def loss(self, output: Tensor, batch: Batch) -> tuple[Tensor, Tensor]:
        """Returns the cross-entropy over the images of the batch, and the fraction of views with the right
        prediction."""
        scores = similarity(output, batch.views_per_image)
        target = positive_index(scores)
        right = (scores.argmax(1) == target).float().mean()
        return F.cross_entropy(scores / self.settings.temperature, target), right

    def transfer(self, student: Tensor, teacher: Tensor, batch: Batch, config: TransferConfig) -> Transfer:
        """Returns L_ss between the rows of both similarity matrices, selected by the teacher's ranks."""
        teacher_similarity = similarity(teacher, batch.views_per_image)
        rank = ranks(teacher_similarity, positive_index(teacher_similarity))
        kept = keep_mask(rank, config.keep)
        loss = kd_divergence(
            similarity(student, batch.views_per_image), teacher_similarity, config.temperature, kept, config.divergence
        )
        return Transfer(loss, {"head_accuracy": (rank == 0).float().mean(), "ss_kept": kept.float().mean()})
