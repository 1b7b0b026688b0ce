"""ReviewKD (Chen et al. 2021): each of the teacher's levels is learned from all deeper levels of the student."""

from collections.abc import Sequence

import torch
from pydantic import NonNegativeFloat
from torch import Tensor, nn
from torch.nn import functional as F

from sskd.config.settings import MethodSettings
from sskd.data.batch import Batch
from sskd.methods.base import METHODS, LossTerms, Method, MethodContext, MethodInfo
from sskd.methods.feature_maps import check_intermediate_maps, intermediate_maps
from sskd.networks import Features, FeatureShapes

WIDEST = 512  # of the maps that are fused
POOLED = (4, 2, 1)  # sizes at which maps are compared beside their own


def hcl(student: Tensor, teacher: Tensor) -> Tensor:
    """Mean squared error of maps (B, C, H, W) at their own size and pooled to 4, 2 and 1, where these are smaller,
    each weighted by half of what came before; divided by the weights' sum; 0-d. Chen et al. 2021, sec. 3.4."""
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
    """One level: the student's map, fused with what is passed on from the next deeper level, if there is one."""

    def __init__(self, width: int, fused: int, target: int, deepest: bool) -> None:
        super().__init__()
        self.enter = _convolution(width, fused, kernel=1)
        self.leave = _convolution(fused, target, kernel=3)
        self.attention = None if deepest else nn.Conv2d(2 * fused, 2, 1)

    def forward(self, student: Tensor, deeper: Tensor | None, size: Sequence[int]) -> tuple[Tensor, Tensor]:
        """(B, width, H, W) and the deeper level's (B, fused, h, w) to what is compared with the teacher's map of
        ``size``, and what is passed on."""
        fused = self.enter(student)
        if self.attention is not None:
            assert deeper is not None
            deeper = _resized(deeper, fused.shape[2:])
            share = self.attention(torch.cat([fused, deeper], dim=1)).sigmoid()
            fused = share[:, :1] * fused + share[:, 1:] * deeper
        fused = _resized(fused, size)
        return self.leave(fused), fused


def _convolution(width: int, wanted: int, kernel: int) -> nn.Sequential:
    convolution = nn.Conv2d(width, wanted, kernel, padding=kernel // 2, bias=False)
    nn.init.kaiming_uniform_(convolution.weight, a=1)
    return nn.Sequential(convolution, nn.BatchNorm2d(wanted))


def _resized(maps: Tensor, size: Sequence[int]) -> Tensor:
    return maps if tuple(maps.shape[2:]) == tuple(size) else F.interpolate(maps, size=tuple(size), mode="nearest")


class ReviewSettings(MethodSettings):
    weight: NonNegativeFloat = 5.0
    """The weight of the method's term: beta in the published code."""


@METHODS.register("reviewkd")
class ReviewKD(Method):
    """The levels are all feature maps but the first, and the pooled features as a map of one pixel: the student's after
    their ReLU, the teacher's before it. In the first epoch of the warm-up, the term's weight is 0, as in the authors'
    code."""

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
        student_widths, teacher_widths = (
            [*(shape[0] for shape in intermediate_maps(shapes.feature_maps)), shapes.embed_dim]
            for shapes in (context.student_shapes, teacher)
        )
        fused = min(WIDEST, student_widths[-1])
        levels = zip(reversed(student_widths), reversed(teacher_widths), strict=True)
        self.levels = nn.ModuleList(
            ABF(width, fused, target, deepest=number == 0) for number, (width, target) in enumerate(levels)
        )

    @classmethod
    def check(cls, settings: ReviewSettings, student: FeatureShapes, teacher: FeatureShapes) -> None:
        check_intermediate_maps("reviewkd", student, teacher)

    def loss_terms(self, student: Features, teacher: Features, batch: Batch) -> LossTerms:
        student_levels = (*intermediate_maps(student.feature_maps), student.pooled)
        teacher_levels = (*intermediate_maps(teacher.preactivations), teacher.pooled)
        return LossTerms({"review": self.loss(student_levels, teacher_levels)})

    def loss(self, student: Sequence[Tensor], teacher: Sequence[Tensor]) -> Tensor:
        """The sum of all levels' losses. Maps in forward order, the pooled features (B, D) last."""
        total, passed_on = student[0].new_zeros(()), None
        for level, student_map, teacher_map in zip(self.levels, reversed(student), reversed(teacher), strict=True):
            student_map, teacher_map = (
                maps[:, :, None, None] if maps.ndim == 2 else maps for maps in (student_map, teacher_map)
            )
            reviewed, passed_on = level(student_map, passed_on, teacher_map.shape[2:])
            total = total + hcl(reviewed, teacher_map)
        return total
