"""NST (Huang & Wang 2017): matches the distributions of the channels' activation maps by their MMD."""

from collections.abc import Sequence

import torch
from pydantic import NonNegativeFloat
from torch import Tensor
from torch.nn import functional as F

from sskd.config.settings import MethodSettings
from sskd.data.batch import Batch
from sskd.methods.base import METHODS, LossTerms, Method, MethodInfo
from sskd.methods.feature_maps import check_intermediate_maps, match_sizes
from sskd.networks import Features, FeatureShapes


def selectivity_loss(student: Tensor, teacher: Tensor) -> Tensor:
    """Mean over the batch of the squared MMD between the channels of both maps, with the kernel k(x, y) = (x . y)^2;
    0-d.

    student, teacher: maps (B, C, H, W) float32 of equal size; channels may differ and are scaled to unit length. Huang
    & Wang 2017, polynomial kernel: mean k(t, t) + mean k(s, s) - 2 mean k(s, t).
    """
    student_maps, teacher_maps = F.normalize(student.flatten(2), dim=2), F.normalize(teacher.flatten(2), dim=2)
    positions, channels = student_maps.shape[2], max(student_maps.shape[1], teacher_maps.shape[1])
    if positions > channels:
        return (
            _mean_kernel(teacher_maps, teacher_maps)
            + _mean_kernel(student_maps, student_maps)
            - 2 * _mean_kernel(student_maps, teacher_maps)
        )
    # (x . y)^2 is the inner product of x x^T and y y^T, so the MMD is the distance of their means. In this case these
    # HW x HW matrices are smaller than the C x C matrices of the kernel.
    return (_mean_outer_product(student_maps) - _mean_outer_product(teacher_maps)).square().sum() / len(student_maps)


def _mean_kernel(a: Tensor, b: Tensor) -> Tensor:
    """Mean of (x . y)^2 over pairs of channels and over images: (B, C_a, HW) and (B, C_b, HW) to 0-d."""
    return (a @ b.transpose(1, 2)).square().mean()


def _mean_outer_product(maps: Tensor) -> Tensor:
    """Returns the mean of x x^T over the channels: (B, C, HW) to (B, HW, HW)."""
    return maps.transpose(1, 2) @ maps / maps.shape[1]


def all_maps_loss(student: Sequence[Tensor], teacher: Sequence[Tensor]) -> Tensor:
    """Sum of ``selectivity_loss`` over the maps; channels and sizes may differ; 0-d."""
    pairs = zip(student, teacher, strict=True)
    return torch.stack([selectivity_loss(*match_sizes(*pair)) for pair in pairs]).sum()


class NSTSettings(MethodSettings):
    weight: NonNegativeFloat = 1.0
    """The weight of the method's term."""


@METHODS.register("nst")
class NST(Method):
    """Compares all intermediate maps with equal weights."""

    Settings = NSTSettings
    info = MethodInfo(
        "NST",
        "Huang & Wang, arXiv 2017, Like What You Like: Knowledge Distill via Neuron Selectivity Transfer",
        2017,
        "the distribution of the channels of intermediate feature maps",
        family="feature maps",
        url="https://arxiv.org/abs/1707.01219",
        code="https://github.com/TuSimple/neuron-selectivity-transfer",
        formula=r"w \sum_l \left\langle \frac{1}{C_t^2} \sum_{j,k} (t_j \cdot t_k)^2 + \frac{1}{C_s^2} \sum_{j,k} (s_j "
        r"\cdot s_k)^2 - \frac{2}{C_s C_t} \sum_{j,k} (s_j \cdot t_k)^2 \right\rangle",
        where="$s_j$ and $t_k$ are the channels of the student's and the teacher's map at level $l$, each scaled to "
        "unit length; $C_s$ and $C_t$ are their numbers.",
    )
    required_features = frozenset({"feature_maps"})
    term_weights = {"nst": "weight"}

    @classmethod
    def check(cls, settings: NSTSettings, student: FeatureShapes, teacher: FeatureShapes) -> None:
        check_intermediate_maps("nst", student, teacher)

    def loss_terms(self, student: Features, teacher: Features, batch: Batch) -> LossTerms:
        return LossTerms({"nst": all_maps_loss(student.feature_maps[1:], teacher.feature_maps[1:])})
