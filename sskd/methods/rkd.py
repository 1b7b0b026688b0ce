"""RKD (Park et al. 2019): distances and angles between the images of a batch match the teacher's."""

import torch
from pydantic import NonNegativeFloat
from torch import Tensor
from torch.nn import functional as F

from sskd.config.settings import MethodSettings
from sskd.data.batch import Batch
from sskd.methods.base import METHODS, LossTerms, Method, MethodInfo
from sskd.networks import Features

EPSILON = 1e-12


def distances_and_cosines(features: Tensor) -> tuple[Tensor, Tensor]:
    """Returns pairwise distances (B, B), divided by their mean, and cosines (B, B, B) of features (B, D) float32.

    Cosine [i, j, k] is that of the angle at i between j and k, or 0 if j or k equals i. It is computed from the B x B x
    D differences, because inner products of the features lose precision for close pairs.
    """
    differences = features - features[:, None]
    distances = torch.linalg.vector_norm(differences, dim=2)
    directions = differences / distances.clamp_min(EPSILON)[:, :, None]
    apart = (distances > 0).sum().clamp_min(1)
    mean = (distances.sum() / apart).clamp_min(EPSILON)
    return distances / mean, directions @ directions.transpose(1, 2)


def relational_loss(student: Tensor, teacher: Tensor, distance: float, angle: float) -> Tensor:
    """Weighted sum of the smooth L1 losses of B^2 distances and B^3 cosines; 0-d. Park et al. 2019, RKD-DA.

    student, teacher: pooled features (B, D) float32; D may differ. distance, angle: weights.
    """
    distances_s, cosines_s = distances_and_cosines(student)
    distances_t, cosines_t = distances_and_cosines(teacher)
    return distance * F.smooth_l1_loss(distances_s, distances_t) + angle * F.smooth_l1_loss(cosines_s, cosines_t)


class RKDSettings(MethodSettings):
    weight: NonNegativeFloat = 1.0
    """The weight of the sum of both terms."""
    distance_weight: NonNegativeFloat = 25.0
    """The weight of pairwise distances."""
    angle_weight: NonNegativeFloat = 50.0
    """The weight of the angles of triplets."""


@METHODS.register("rkd")
class RKD(Method):
    """Compares the pooled features of student and teacher."""

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
