"""OFD (Heo et al. 2019): matches pre-activation maps, and the teacher's negative values only up to a margin."""

import math
from collections.abc import Sequence

import torch
from pydantic import NonNegativeFloat
from torch import Tensor, nn
from torch.nn import functional as F

from sskd.config.settings import MethodSettings
from sskd.data.batch import Batch
from sskd.errors import UserError
from sskd.methods.base import METHODS, LossTerms, Method, MethodContext, MethodInfo
from sskd.methods.feature_maps import check_intermediate_maps
from sskd.networks import Features, FeatureShapes

RARE = 0.001  # channels that are negative with a smaller probability have the margin -3 standard deviations


def margins(norm: nn.BatchNorm2d) -> Tensor:
    """Returns the margin (C,) of each channel, from the batch norm before a ReLU: the mean of the negative values of a
    normal distribution with the norm's bias as mean and its weight as standard deviation. Heo et al. 2019."""
    deviation, mean = norm.weight.detach().double().abs(), norm.bias.detach().double()
    below = torch.special.ndtr(-mean / deviation)
    density = (-((mean / deviation) ** 2) / 2).exp() / math.sqrt(2 * math.pi)
    return torch.where(below > RARE, mean - deviation * density / below, -3 * deviation).to(norm.weight.dtype)


def partial_distance(student: Tensor, teacher: Tensor, margin: Tensor) -> Tensor:
    """Partial L2 distance of Heo et al. 2019, summed over entries and divided by B; 0-d. The target is max(t, margin).
    Entries with t <= 0 and s <= target count 0. student, teacher: (B, C, H, W) float32 of equal shape. margin: (C,)."""
    target = torch.maximum(teacher, margin[:, None, None])
    counts = (teacher > 0) | (student > target)
    return (counts * (student - target).square()).sum() / len(student)


class OFDSettings(MethodSettings):
    weight: NonNegativeFloat = 0.001
    """The weight of the method's term."""


@METHODS.register("ofd")
class OFD(Method):
    """Derives the margins from the trained batch norms of the teacher."""

    Settings = OFDSettings
    info = MethodInfo(
        "OFD",
        "Heo et al., ICCV 2019, A Comprehensive Overhaul of Feature Distillation",
        2019,
        "feature maps before their ReLU, with negative values up to a margin",
        family="feature maps",
        url="https://arxiv.org/abs/1904.01866",
        code="https://github.com/clovaai/overhaul-distillation",
        formula=r"\frac{w}{B} \sum_{l=1}^{L} 2^{l-L} \sum \delta_l \left( x_l - \max(g^t_l, m_l) \right)^2",
        where="$x_l$ is the student's pre-activation after a 1 x 1 convolution and batch norm, $g^t_l$ the "
        r"teacher's, pooled to the student's size. $\delta_l$ is 1 where $g^t_l > 0$ or $x_l > \max(g^t_l, "
        "m_l)$, else 0. The margin $m_l$ is the mean of the channel's negative part, from the batch norm "
        "before the teacher's ReLU.",
        differs="The authors' code has the teacher in train mode; here it is in eval mode. Their recipe and networks "
        "differ (WRN 28-4, 200 epochs). mdistiller's copy does not support ResNet50 as a teacher, nor "
        "MobileNetV2 or ShuffleV1 as students. MobileNetV2's blocks end without a ReLU; their maps are "
        "compared as they are.",
    )
    required_features = frozenset({"preactivations"})
    term_weights = {"ofd": "weight"}

    def __init__(self, settings: OFDSettings, context: MethodContext) -> None:
        super().__init__(settings, context)
        teacher, teacher_shapes = context.teacher_side()
        self.connectors = nn.ModuleList()
        for s, t in zip(context.student_shapes.feature_maps[1:], teacher_shapes.feature_maps[1:], strict=True):
            convolution = nn.Conv2d(s[0], t[0], 1, bias=False)
            nn.init.normal_(convolution.weight, 0, math.sqrt(2 / t[0]))
            self.connectors.append(nn.Sequential(convolution, nn.BatchNorm2d(t[0])))
        for level, norm in enumerate(teacher.map_norms()):
            self.register_buffer(f"margin{level}", margins(norm), persistent=False)

    @classmethod
    def check(cls, settings: OFDSettings, student: FeatureShapes, teacher: FeatureShapes) -> None:
        check_intermediate_maps("ofd", student, teacher)
        if teacher.norms != len(teacher.feature_maps[1:]):
            raise UserError(
                f"method 'ofd' needs the batch norm before each map's ReLU, and {teacher.network} does not define "
                "them: choose a resnet, wrn or vgg as teacher, or implement map_norms()"
            )

    def loss_terms(self, student: Features, teacher: Features, batch: Batch) -> LossTerms:
        return LossTerms({"ofd": self.loss(student.preactivations[1:], teacher.preactivations[1:])})

    def loss(self, student: Sequence[Tensor], teacher: Sequence[Tensor]) -> Tensor:
        """Returns the term, 0-d. student, teacher: pre-activation maps (B, C, H, W) float32 in forward order."""
        total = student[0].new_zeros(())
        for level, connect in enumerate(self.connectors):
            connected = connect(student[level])
            target = F.adaptive_avg_pool2d(teacher[level], connected.shape[2:])
            distance = partial_distance(connected, target, self.get_buffer(f"margin{level}"))
            total = total + distance / 2 ** (len(student) - 1 - level)
        return total
