"""RKD (Park et al. 2019): distances and angles between a batch's images match the teacher's."""

import torch
from pydantic import NonNegativeFloat
from torch import Tensor
from torch.nn import functional as F

from sskd.config.settings import MethodSettings
from sskd.data.batch import Batch
from sskd.methods.base import METHODS, LossTerms, Method, MethodInfo
from sskd.networks import Features

EPSILON = 1e-12


def distances_and_cosines(vectors: Tensor) -> tuple[Tensor, Tensor]:
    """The geometry of a batch, (B, D): distances (B, B), relative to their mean, and cosines (B, B, B).

    Cosine [i, j, k] is that of the angle at i between j and k, 0 where j or k is the same point as i. Made
    from the B x B x D differences, as inner products of the vectors would lose the digits of close pairs.
    """
    differences = vectors - vectors[:, None]
    distances = torch.linalg.vector_norm(differences, dim=2)
    directions = differences / distances.clamp_min(EPSILON)[:, :, None]
    apart = (distances > 0).sum().clamp_min(1)
    mean = (distances.sum() / apart).clamp_min(EPSILON)
    return distances / mean, directions @ directions.transpose(1, 2)


def relational_loss(student: Tensor, teacher: Tensor, distance: float, angle: float) -> Tensor:
    """The two smooth-L1 means, over B^2 distances and B^3 cosines, weighted ``distance`` and ``angle``; 0-d.

    Vectors (B, D) float32; the two sides may differ in width. Park et al. 2019, RKD-DA.
    """
    distances_s, cosines_s = distances_and_cosines(student)
    distances_t, cosines_t = distances_and_cosines(teacher)
    return distance * F.smooth_l1_loss(distances_s, distances_t) + angle * F.smooth_l1_loss(cosines_s, cosines_t)


class RKDSettings(MethodSettings):
    weight: NonNegativeFloat = 1.0
    """The weight of both parts together."""
    distance_weight: NonNegativeFloat = 25.0
    """The weight of pairwise distances."""
    angle_weight: NonNegativeFloat = 50.0
    """The weight of the angles of triplets."""


@METHODS.register("rkd")
class RKD(Method):
    """Compares the pooled features of both sides."""

    Settings = RKDSettings
    info = MethodInfo(
        "RKD",
        "Park et al., CVPR 2019, Relational Knowledge Distillation",
        2019,
        "distances and angles between images of a batch",
        family="relations",
        url="https://arxiv.org/abs/1904.05068",
        code="https://github.com/lenscloth/RKD",
        formula=r"w_1 \operatorname{mean}_{ij} h(\psi^s_{ij} - \psi^t_{ij}) + w_2 \operatorname{mean}_{ijk} h(\cos "
        r"\alpha^s_{ijk} - \cos \alpha^t_{ijk})",
        where=r"$h$ is the smooth L1 loss, $\psi_{ij}$ the distance of the pooled features of the images $i$ and $j$ "
        r"divided by the batch's mean distance, $\alpha_{ijk}$ the angle at $i$ between $j$ and $k$. $w_1$ is "
        "`distance_weight`, $w_2$ is `angle_weight`; both are multiplied by `weight`.",
    )
    required_features = frozenset({"pooled"})
    term_weights = {"rkd": "weight"}

    def loss_terms(self, student: Features, teacher: Features, batch: Batch) -> LossTerms:
        settings = self.settings
        loss = relational_loss(student.pooled, teacher.pooled, settings.distance_weight, settings.angle_weight)
        return LossTerms({"rkd": loss})
