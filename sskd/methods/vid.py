"""VID (Ahn et al. 2019): maximises a lower bound of the mutual information between student and teacher maps."""

import math

import torch
from pydantic import NonNegativeFloat
from torch import Tensor, nn
from torch.nn import functional as F

from sskd.config.settings import MethodSettings
from sskd.data.batch import Batch
from sskd.methods.base import METHODS, LossTerms, Method, MethodContext, MethodInfo
from sskd.methods.feature_maps import check_intermediate_maps, match_sizes
from sskd.networks import Features, FeatureShapes

INITIAL_VARIANCE = 5.0
EPSILON = 1e-5  # minimum variance


def negative_log_likelihood(predicted: Tensor, target: Tensor, variance: Tensor) -> Tensor:
    """Mean over all elements of 0.5 ((predicted - target)^2 / variance + log variance); 0-d. Ahn et al. 2019.

    predicted, target: maps (B, C, H, W) float32. variance: (C,). Squares are averaged per channel before the division,
    to save time.
    """
    error = (predicted - target).square().mean(dim=(0, 2, 3))
    return 0.5 * (error / variance + variance.log()).mean()


class GaussianRegressor(nn.Module):
    """Gaussian q(teacher's map | student's map) with a regressed mean and one trained variance per channel."""

    def __init__(self, in_channels: int, out_channels: int) -> None:
        super().__init__()
        self.regressor = nn.Sequential(
            nn.Conv2d(in_channels, out_channels, 1, bias=False),
            nn.ReLU(),
            nn.Conv2d(out_channels, out_channels, 1, bias=False),
            nn.ReLU(),
            nn.Conv2d(out_channels, out_channels, 1, bias=False),
        )
        inverse_softplus = math.log(math.expm1(INITIAL_VARIANCE - EPSILON))
        self.log_scale = nn.Parameter(torch.full((out_channels,), inverse_softplus))

    def forward(self, student: Tensor, teacher: Tensor) -> Tensor:
        student, teacher = match_sizes(student, teacher)
        return negative_log_likelihood(self.regressor(student), teacher, F.softplus(self.log_scale) + EPSILON)


class VIDSettings(MethodSettings):
    weight: NonNegativeFloat = 1.0
    """The weight of the method's term."""


@METHODS.register("vid")
class VID(Method):
    """Compares all intermediate maps with equal weights; each has its own regressor and variances."""

    Settings = VIDSettings
    info = MethodInfo(
        "VID",
        "Ahn et al., CVPR 2019, Variational Information Distillation for Knowledge Transfer",
        2019,
        "mutual information of intermediate feature maps",
        family="feature maps",
        url="https://arxiv.org/abs/1904.05835",
        formula=r"w \sum_l \operatorname{mean} \frac{1}{2} \left( \frac{(r_l(f^s_l) - f^t_l)^2}{\nu_l} + \log \nu_l "
        r"\right)",
        where=r"$r_l$ is a regressor of three 1 x 1 convolutions, $\nu_l$ a trained variance per channel.",
    )
    required_features = frozenset({"feature_maps"})
    term_weights = {"vid": "weight"}

    def __init__(self, settings: VIDSettings, context: MethodContext) -> None:
        super().__init__(settings, context)
        _, teacher = context.teacher_side()
        shapes = zip(context.student_shapes.feature_maps[1:], teacher.feature_maps[1:], strict=True)
        self.taps = nn.ModuleList(GaussianRegressor(s[0], t[0]) for s, t in shapes)

    @classmethod
    def check(cls, settings: VIDSettings, student: FeatureShapes, teacher: FeatureShapes) -> None:
        check_intermediate_maps("vid", student, teacher)

    def loss_terms(self, student: Features, teacher: Features, batch: Batch) -> LossTerms:
        triples = zip(self.taps, student.feature_maps[1:], teacher.feature_maps[1:], strict=True)
        return LossTerms({"vid": torch.stack([regressor(*pair) for regressor, *pair in triples]).sum()})
