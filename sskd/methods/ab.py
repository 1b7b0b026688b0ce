"""AB (Heo et al. 2019): before the main training, the student learns the teacher's activation boundaries (signs)."""

from collections.abc import Sequence
from typing import Any

import torch
from pydantic import NonNegativeFloat, PositiveInt
from torch import Tensor, nn

from sskd.config.settings import MethodSettings
from sskd.data.batch import Batch
from sskd.methods.base import METHODS, InitialStage, Method, MethodContext, MethodInfo
from sskd.methods.feature_maps import check_intermediate_maps, check_regressor, regressor
from sskd.networks import Features, FeatureShapes

MARGIN = 1.0
SCALE = 3 / 1000  # from the published code


def activation_boundary_loss(student: Sequence[Tensor], teacher: Sequence[Tensor]) -> Tensor:
    """Returns the activation transfer loss of Heo et al. 2019: the student's pre-activations should have the teacher's
    sign, with a margin of 1; 0-d.

    student, teacher: n pre-activations of equal shapes (B, ...) float32, the student's after its connectors. The loss
    sums (s + 1)^2 where s > -1 and t <= 0, and (s - 1)^2 where s <= 1 and t > 0. Pair i of n (from 0) has the weight
    2^(i - n + 1); the sum is multiplied by 3 / 1000 / B.
    """
    losses = []
    for i, (s, t) in enumerate(zip(student, teacher, strict=True)):
        target = torch.where(t > 0, MARGIN, -MARGIN)
        short = torch.where(t > 0, s <= MARGIN, s > -MARGIN)
        losses.append(2.0 ** (i - len(student) + 1) * ((s - target).square() * short).sum())
    return torch.stack(losses).sum() * (SCALE / student[0].shape[0])


class ABSettings(MethodSettings):
    weight: NonNegativeFloat = 1.0
    """The weight of the term in the initial stage."""
    initial_epochs: PositiveInt = 30
    """Epochs of the initial stage."""


@METHODS.register("ab")
class AB(Method):
    """Compares features only in the initial stage. The main training uses CE (and KD), without connectors."""

    Settings = ABSettings
    info = MethodInfo(
        "AB",
        "Heo et al., AAAI 2019, Knowledge Transfer via Distillation of Activation Boundaries",
        2019,
        "signs of intermediate pre-activations",
        family="feature maps",
        url="https://arxiv.org/abs/1811.03233",
        code="https://github.com/bhheo/AB_distillation",
        formula=r"\frac{3 w}{1000 B} \sum_{l=1}^{L} 2^{l-L} \sum \delta_l (\hat g^s_l - m_l)^2",
        where=r"In the initial stage only. $\hat g^s_l$ is the student's pre-activation after a connector; the inner "
        "sum runs over all its entries. Where the teacher's pre-activation is positive, $m_l = 1$ and "
        r"$\delta_l = [\hat g^s_l \leq 1]$; elsewhere $m_l = -1$ and $\delta_l = [\hat g^s_l > -1]$.",
    )
    required_features = frozenset({"preactivations"})
    stage_names = ("initial", "main")

    def __init__(self, settings: ABSettings, context: MethodContext) -> None:
        super().__init__(settings, context)
        _, teacher = context.teacher_side()
        pairs = zip(context.student_shapes.feature_maps[1:], teacher.feature_maps[1:], strict=True)
        self.connectors = nn.ModuleList(nn.Identity() if s == t else regressor(s, t, relu=False) for s, t in pairs)
        # in a tuple, so that they are not submodules
        self._feature_layers = tuple(context.student.feature_layers())

    @classmethod
    def check(cls, settings: Any, student: FeatureShapes, teacher: FeatureShapes) -> None:
        check_intermediate_maps("ab", student, teacher)
        for tap in range(1, len(student.feature_maps)):
            check_regressor("ab", student, teacher, tap)

    def initial_stages(self) -> list[InitialStage]:
        trained = (self.connectors, *self._feature_layers)
        return [InitialStage("initial", self.settings.initial_epochs, trained, self._initial_loss)]

    def _initial_loss(self, student: Features | None, teacher: Features, batch: Batch) -> dict[str, Tensor]:
        assert student is not None
        pairs = zip(self.connectors, student.preactivations[1:], strict=True)
        connected = [connector(maps) for connector, maps in pairs]
        return {"ab": self.settings.weight * activation_boundary_loss(connected, teacher.preactivations[1:])}
