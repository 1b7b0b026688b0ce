"""HSAKD's pretext task (Yang et al. 2021): joint classification of class and rotation from each feature map."""

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

VIEWS = 4  # per image: rotations by 0, 90, 180 and 270 degrees


def joint_labels(labels: Tensor) -> Tensor:
    """Returns joint labels (4 B,) of classes (B,): 4 c + k for class c and k quarter turns; image j has the rows 4 j to
    4 j + 3."""
    return (VIEWS * labels[:, None] + torch.arange(VIEWS, device=labels.device)).flatten()


class Settings(PretextSettings):
    joint: bool = False
    """HSAKD*: train a new network of the teacher's architecture together with the auxiliary classifiers (its own
    cross-entropy on normal images, theirs on all views), and use it as the teacher."""

    @property
    def trains_network(self) -> bool:
        return self.joint


@PRETEXTS.register("hsakd")
class HSAKDClassifiers(Pretext):
    """Head: an auxiliary classifier with 4 C scores on each map but the first. Loss: the sum of their
    cross-entropies."""

    Settings: ClassVar[type[PretextSettings]] = Settings
    title = "Class and rotation"
    method: ClassVar[str | None] = "hsakd"
    required_features = frozenset({"feature_maps"})

    def __init__(self, settings: Any, context: PretextContext) -> None:
        super().__init__(settings, context)
        self.branches = AuxiliaryClassifiers(context.network, VIEWS * context.num_classes)
        if settings.trains_network:
            self.network = build_network(context.network, context.num_classes)

    @classmethod
    def view_transform(cls, settings: Any) -> ViewTransform:
        return Rotated()

    def read(self, features: Features) -> Tensor:
        """Returns the scores (levels, 4 B, 4 C) of all auxiliary classifiers."""
        return torch.stack(self.branches.read(features))

    def loss(self, output: Tensor, batch: Batch) -> tuple[Tensor, Tensor]:
        target = joint_labels(batch.labels)
        loss = torch.stack([F.cross_entropy(scores, target) for scores in output]).sum()
        return loss, (output.argmax(2) == target).float().mean()
