"""ReviewKD (Chen et al. 2021): the student's maps of a level and all deeper levels are fused and match the
teacher's."""

from collections.abc import Sequence

import torch
from pydantic import NonNegativeFloat
from torch import Tensor, nn
from torch.nn import functional as F

from sskd.config.settings import MethodSettings
from sskd.data.batch import Batch
from sskd.methods.base import METHODS, LossTerms, Method, MethodContext, MethodInfo
from sskd.methods.feature_maps import check_intermediate_maps
from sskd.networks import Features, FeatureShapes

MAX_CHANNELS = 512  # of the fused maps
POOLED = (4, 2, 1)  # further sizes at which maps are compared


def hcl(student: Tensor, teacher: Tensor) -> Tensor:
    """Hierarchical context loss (HCL) of Chen et al. 2021, sec. 3.4; 0-d. It averages the mean squared errors of maps
    (B, C, H, W) at full size and pooled to 4, 2 and 1 (if smaller), with weights 1, 1/2, 1/4, ..."""
    height = student.shape[2]
    losses, weight, total = F.mse_loss(student, teacher), 1.0, 1.0
    for size in POOLED:
        if size < height:
            weight /= 2
            total += weight
            student_pooled, teacher_pooled = (F.adaptive_avg_pool2d(maps, (size, size)) for maps in (student, teacher))
            losses = losses + weight * F.mse_loss(student_pooled, teacher_pooled)
    return losses / total


class ABF(nn.Module):
    """Attention based fusion (ABF) of the student's map with the fused map of the next deeper level, if there is
    one."""

    def __init__(self, channels: int, fused: int, out_channels: int, deepest: bool) -> None:
        super().__init__()
        self.enter = _convolution(channels, fused, kernel=1)
        self.leave = _convolution(fused, out_channels, kernel=3)
        self.attention = None if deepest else nn.Conv2d(2 * fused, 2, 1)

    def forward(self, student: Tensor, deeper: Tensor | None, size: Sequence[int]) -> tuple[Tensor, Tensor]:
        """Returns the map that is compared with the teacher's map of ``size``, and the fused map for the next level.
        student: (B, channels, H, W). deeper: (B, fused, h, w)."""
        fused = self.enter(student)
        if self.attention is not None:
            assert deeper is not None
            deeper = _resized(deeper, fused.shape[2:])
            share = self.attention(torch.cat([fused, deeper], dim=1)).sigmoid()
            fused = share[:, :1] * fused + share[:, 1:] * deeper
        fused = _resized(fused, size)
        return self.leave(fused), fused


def _convolution(in_channels: int, out_channels: int, kernel: int) -> nn.Sequential:
    convolution = nn.Conv2d(in_channels, out_channels, kernel, padding=kernel // 2, bias=False)
    nn.init.kaiming_uniform_(convolution.weight, a=1)
    return nn.Sequential(convolution, nn.BatchNorm2d(out_channels))


def _resized(maps: Tensor, size: Sequence[int]) -> Tensor:
    return maps if tuple(maps.shape[2:]) == tuple(size) else F.interpolate(maps, size=tuple(size), mode="nearest")


class ReviewSettings(MethodSettings):
    weight: NonNegativeFloat = 5.0
    """The weight of the method's term: beta in the published code."""


@METHODS.register("reviewkd")
class ReviewKD(Method):
    """The levels are all feature maps but the first, and the pooled features as a 1x1 map; the teacher's maps are taken
    before their ReLU. The weight is 0 in the first epoch of the warm-up, as in the authors' code."""

    Settings = ReviewSettings
    info = MethodInfo(
        "ReviewKD",
        "Chen et al., CVPR 2021, Distilling Knowledge via Knowledge Review",
        2021,
        "feature maps of all levels, each matched by the student's deeper levels too",
        family="feature maps",
        url="https://arxiv.org/abs/2104.09044",
        code="https://github.com/dvlab-research/ReviewKD",
        formula=r"w \sum_l H(o_l, g^t_l), \quad o_l = \mathrm{BN}(\operatorname{conv}_3(r_l)), \quad r_l = a_0 u_l + "
        "a_1 r_{l+1}",
        where=r"$u_l = \mathrm{BN}(\operatorname{conv}_1(f^s_l))$ and $a = "
        r"\operatorname{sigmoid}(\operatorname{conv}_1([u_l, r_{l+1}]))$, where $\operatorname{conv}_k$ is a "
        r"$k \times k$ convolution. The pooled features are the deepest level, with $r_l = u_l$. $H$ is the mean "
        "of the squared errors at full size and pooled to 4, 2 and 1, with weights 1, 1/2, 1/4, 1/8.",
        differs="In the paper (according to a reproduction's notes), one output of a fusion module is used for the "
        "loss and the next level; the code has two. The authors' recipe has batch size 128, learning rate "
        "0.1, Nesterov's momentum and their own teachers; here all methods have one recipe. In the first "
        "epoch the weight is 0, as in the authors' code; mdistiller starts with 1/20.",
    )
    required_features = frozenset({"feature_maps", "preactivations", "pooled"})
    term_weights = {"review": "weight"}
    first_epoch = 0

    def __init__(self, settings: ReviewSettings, context: MethodContext) -> None:
        super().__init__(settings, context)
        _, teacher = context.teacher_side()
        student_channels, teacher_channels = (
            [*(shape[0] for shape in shapes.feature_maps[1:]), shapes.embed_dim]
            for shapes in (context.student_shapes, teacher)
        )
        fused = min(MAX_CHANNELS, student_channels[-1])
        levels = zip(reversed(student_channels), reversed(teacher_channels), strict=True)
        self.levels = nn.ModuleList(
            ABF(channels, fused, target, deepest=number == 0) for number, (channels, target) in enumerate(levels)
        )

    @classmethod
    def check(cls, settings: ReviewSettings, student: FeatureShapes, teacher: FeatureShapes) -> None:
        check_intermediate_maps("reviewkd", student, teacher)

    def loss_terms(self, student: Features, teacher: Features, batch: Batch) -> LossTerms:
        student_levels = (*student.feature_maps[1:], student.pooled)
        teacher_levels = (*teacher.preactivations[1:], teacher.pooled)
        return LossTerms({"review": self.loss(student_levels, teacher_levels)})

    def loss(self, student: Sequence[Tensor], teacher: Sequence[Tensor]) -> Tensor:
        """Returns the sum of the losses of all levels, 0-d. student, teacher: maps in forward order, then pooled
        features."""
        total, passed_on = student[0].new_zeros(()), None
        for level, student_map, teacher_map in zip(self.levels, reversed(student), reversed(teacher), strict=True):
            student_map, teacher_map = (
                maps[:, :, None, None] if maps.ndim == 2 else maps for maps in (student_map, teacher_map)
            )
            reviewed, passed_on = level(student_map, passed_on, teacher_map.shape[2:])
            total = total + hcl(reviewed, teacher_map)
        return total
