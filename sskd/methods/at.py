"""AT (Zagoruyko & Komodakis 2017): the student's spatial attention maps match the teacher's."""

from collections.abc import Sequence

import torch
from pydantic import NonNegativeFloat
from torch import Tensor
from torch.nn import functional as F

from sskd.config.settings import MethodSettings
from sskd.data.batch import Batch
from sskd.methods.base import METHODS, LossTerms, Method, MethodInfo
from sskd.methods.feature_maps import attention, check_intermediate_maps, match_sizes
from sskd.networks import Features, FeatureShapes


def attention_loss(student: Sequence[Tensor], teacher: Sequence[Tensor]) -> Tensor:
    """Sum over the maps of the mean squared difference of attention maps; 0-d.

    student, teacher: lists of maps (B, C, H, W) float32; channels and sizes may differ. Zagoruyko & Komodakis 2017 with
    p = 2, as a mean over images and positions.
    """
    losses = []
    for pair in zip(student, teacher, strict=True):
        student_map, teacher_map = match_sizes(*pair)
        losses.append(F.mse_loss(attention(student_map), attention(teacher_map)))
    return torch.stack(losses).sum()


class ATSettings(MethodSettings):
    weight: NonNegativeFloat = 1.0
    """The weight of the method's term."""


@METHODS.register("at")
class AT(Method):
    """Compares all intermediate maps with equal weights."""

    Settings = ATSettings
    info = MethodInfo(
        "AT",
        "Zagoruyko & Komodakis, ICLR 2017, Paying More Attention to Attention: Improving the Performance of "
        "Convolutional Neural Networks via Attention Transfer",
        2017,
        "attention maps of intermediate layers",
        family="feature maps",
        url="https://arxiv.org/abs/1612.03928",
        code="https://github.com/szagoruyko/attention-transfer",
        formula=r"w \sum_l \mathrm{MSE}(a(f^s_l), a(f^t_l)), \quad a(f) = \frac{\sum_c f_c^2}{\lVert \sum_c f_c^2 "
        r"\rVert}",
        where="$f_c$ is channel $c$ of an image's map; $a$ is a vector over the positions.",
    )
    required_features = frozenset({"feature_maps"})
    term_weights = {"at": "weight"}

    @classmethod
    def check(cls, settings: ATSettings, student: FeatureShapes, teacher: FeatureShapes) -> None:
        check_intermediate_maps("at", student, teacher)

    def loss_terms(self, student: Features, teacher: Features, batch: Batch) -> LossTerms:
        return LossTerms({"at": attention_loss(student.feature_maps[1:], teacher.feature_maps[1:])})
