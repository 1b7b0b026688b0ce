"""WKD-L (Lv et al. 2024): Wasserstein distance of predictions, with costs from the teacher's distances of classes."""

from collections.abc import Iterable
from typing import Literal

import torch
from pydantic import NonNegativeFloat, PositiveFloat
from torch import Tensor
from torch.nn import functional as F

from sskd.config.settings import MethodSettings
from sskd.data.batch import Batch
from sskd.errors import UserError
from sskd.methods.base import METHODS, LossTerms, Method, MethodContext, MethodInfo
from sskd.methods.dkd import split_target
from sskd.methods.nkd import target_loss
from sskd.methods.wkdf import falling
from sskd.networks import Features, FeatureShapes

REGULARISER, ITERATIONS, TINY = 0.05, 10, 1e-8  # of the Sinkhorn algorithm


def class_distances(features: Tensor) -> Tensor:
    """Returns 1 - linear CKA of each pair of classes, (C, C), from features (C, n, D). As published, rows of two
    classes are paired by their order, which is arbitrary."""
    centred = features - features.mean(1, keepdim=True)
    own = torch.stack([(rows.T @ rows).norm() for rows in centred])
    cross = torch.stack([(rows.T @ centred).square().sum((1, 2)) for rows in centred])
    return (1 - cross / (own[:, None] * own).clamp(min=TINY)).fill_diagonal_(0)


def transport_costs(distances: Tensor, sharpness: float) -> Tensor:
    """Returns transport costs (C, C) of distances d: 1 - exp(-sharpness d), or d if ``sharpness`` is 0."""
    costs = 1 - (-sharpness * distances).exp() if sharpness > 0 else distances
    return costs.clamp(min=0) + TINY


def wasserstein(student: Tensor, teacher: Tensor, costs: Tensor) -> Tensor:
    """Mean transport cost between probabilities (B, N) float32 by ten Sinkhorn iterations, with gradient through all of
    them; 0-d. costs: (N, N), or (B, N, N) per image."""
    kernel = (-costs / REGULARISER).exp().expand(len(student), -1, -1)
    rows = torch.full_like(student, 1 / student.shape[1])[:, :, None]
    columns = rows
    for _ in range(ITERATIONS):
        columns = teacher[:, :, None] / (kernel.transpose(1, 2) @ rows + TINY)
        rows = student[:, :, None] / (kernel @ columns + TINY)
    return (rows * kernel * columns.transpose(1, 2) * costs).sum((1, 2)).mean()


class WKDLSettings(MethodSettings):
    weight: NonNegativeFloat = 600.0
    """The weight of the Wasserstein distance between predictions of the non-target classes."""
    target_weight: NonNegativeFloat = 1.0
    """The weight of the term of the target class."""
    temperature: PositiveFloat = 8.0
    """Temperature of the predictions of the non-target classes."""
    sharpness: NonNegativeFloat = 1.0
    """Sharpness of the costs 1 - exp(-sharpness d); 0: the costs are the distances d."""
    distances_of: Literal["map", "logits"] = "map"
    """Teacher's features for the distances of classes: its last map at all positions, or its logits (ImageNet)."""
    falls_from: NonNegativeFloat = 150.0
    """Epoch of the full schedule after which the weight falls to 0 along half a cosine."""


@METHODS.register("wkdl")
class WKDL(Method):
    """Computes the distances of classes once before the main training, from the teacher's features of the training
    images in eval mode, in their order and without augmentation."""

    Settings = WKDLSettings
    info = MethodInfo(
        "WKD-L",
        "Lv et al., NeurIPS 2024, Wasserstein Distance Rivals Kullback-Leibler Divergence for Knowledge Distillation",
        2024,
        "predictions, with costs from the teacher's similarity of classes",
        family="logits",
        url="https://arxiv.org/abs/2412.08139",
        code="https://github.com/JiamingLv/WKD",
        formula=r"- w_1 \left\langle p^t_y \log p^s_y \right\rangle + w \left\langle \sum_{j,k} \pi_{jk} c_{jk} "
        r"\right\rangle, \quad c_{jk} = 1 - \exp(- s d_{jk})",
        where=r"$\pi$ is the transport plan (Sinkhorn, 10 iterations, regulariser 0.05) between student's and "
        "teacher's softmaxes at $T$ over the non-target classes. $d_{jk}$ is 1 minus the linear CKA of the "
        "teacher's features of the classes $j$ and $k$, $s$ is `sharpness`, $w_1$ is `target_weight`. After "
        "epoch 150 (`falls_from`), $w$ falls to 0 along half a cosine.",
        differs="The class distances come from the teacher here, from a file in the code. Two pairs have published "
        "settings; all others have those of resnet32x4/resnet8x4.",
    )
    required_features = frozenset({"logits", "labels"})
    term_weights = {"target": "target_weight", "wkdl": "weight"}
    studies = "plain"
    distances: Tensor

    def __init__(self, settings: WKDLSettings, context: MethodContext) -> None:
        super().__init__(settings, context)
        self.register_buffer("distances", 1 - torch.eye(context.num_classes))
        self._epochs = context.recipe.full_epochs

    @classmethod
    def check(cls, settings: WKDLSettings, student: FeatureShapes, teacher: FeatureShapes) -> None:
        if settings.distances_of == "map" and not teacher.feature_maps:
            raise UserError(
                f"method 'wkdl' needs the teacher's last feature map, and {teacher.network}, teacher of "
                f"{student.network}, gives none: set distances_of: logits"
            )

    def study(self, seen: Iterable[tuple[Features, Tensor]]) -> None:
        rows, labels = [], []
        for features, its_labels in seen:
            of_map = self.settings.distances_of == "map"
            of_positions = features.feature_maps[-1].flatten(2).transpose(1, 2) if of_map else features.logits[:, None]
            rows.append(of_positions.float())
            labels.append(its_labels.cpu())  # on the host, so that no size on the device depends on them
        every, of_class = torch.cat(rows), torch.cat(labels)
        images = [(of_class == label).nonzero()[:, 0] for label in range(len(self.distances))]
        fewest = min(map(len, images))
        if not fewest:
            raise UserError(
                "method 'wkdl' needs training images of every class, and a class has none: use a larger split"
            )
        each = [every.index_select(0, found[:fewest].to(every.device)).flatten(0, 1) for found in images]
        self.distances.copy_(class_distances(torch.stack(each)))

    def schedule(self, term: str, epoch: float) -> float:
        falls = falling(epoch, self.settings.falls_from, self._epochs) if term == "wkdl" else 1.0
        return falls * super().schedule(term, epoch)

    def loss_terms(self, student: Features, teacher: Features, batch: Batch) -> LossTerms:
        costs, settings = transport_costs(self.distances, self.settings.sharpness), self.settings
        classes = torch.arange(len(costs), device=costs.device).expand(len(batch.labels), -1)
        _, others = split_target(classes, batch.labels)
        among = costs[others[:, :, None], others[:, None, :]]
        non_target = (split_target(side.logits, batch.labels)[1] / settings.temperature for side in (student, teacher))
        soft_s, soft_t = (F.softmax(side, dim=1) for side in non_target)
        distance = wasserstein(soft_s, soft_t, among)
        target = target_loss(student.logits, teacher.logits, batch.labels)
        return LossTerms({"target": target, "wkdl": distance})
