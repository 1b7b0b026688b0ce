"""HSAKD's teacher side (Yang et al. 2021): from each of the teacher's maps, class and rotation together."""

from typing import Any, ClassVar

import torch
from torch import Tensor
from torch.nn import functional as F

from sskd.config.settings import PretextSettings
from sskd.data.batch import Batch
from sskd.data.views import Rotated, ViewTransform
from sskd.networks import Features, build_network
from sskd.networks.auxiliary_classifiers import AuxiliaryClassifiers
from sskd.pretext.base import PRETEXTS, Pretext, PretextContext

VIEWS = 4  # of every image, turned by 0, 90, 180 and 270 degrees


def joint_labels(labels: Tensor) -> Tensor:
    """(B,) classes to (4 B,): class c turned k times is 4 c + k, rows 4 j to 4 j + 3 being image j's."""
    return (VIEWS * labels[:, None] + torch.arange(VIEWS, device=labels.device)).flatten()


class Settings(PretextSettings):
    joint: bool = False
    """HSAKD*: a network of the teacher's kind is trained from random weights together with the branches, by its own
    cross-entropy on the images as they are and theirs on all views. It teaches in the place of the teacher."""


@PRETEXTS.register("hsakd")
class HSAKDClassifiers(Pretext):
    """Head: a branch on every map, each ending in 4 scores a class. Loss: the sum of their cross-entropies."""

    Settings: ClassVar[type[PretextSettings]] = Settings
    title = "Class and rotation"
    method: ClassVar[str | None] = "hsakd"
    required_features = frozenset({"feature_maps"})

    def __init__(self, settings: Any, context: PretextContext) -> None:
        super().__init__(settings, context)
        self.branches = AuxiliaryClassifiers(context.network, VIEWS * context.num_classes)
        if settings.joint:
            self.network = build_network(context.network, context.num_classes)

    @classmethod
    def view_transform(cls, settings: Any) -> ViewTransform:
        return Rotated()

    def read(self, features: Features) -> Tensor:
        """All branches' scores, (levels, 4 B, 4 C)."""
        return torch.stack(self.branches.read(features))

    def loss(self, output: Tensor, batch: Batch) -> tuple[Tensor, Tensor]:
        wanted = joint_labels(batch.labels)
        loss = torch.stack([F.cross_entropy(scores, wanted) for scores in output]).sum()
        return loss, (output.argmax(2) == wanted).float().mean()
