"""FitNet (Romero et al. 2015): a regressor predicts the teacher's intermediate map (hint) from the student's."""

from typing import Annotated

from pydantic import Field, NonNegativeFloat
from torch.nn import functional as F

from sskd.config.settings import MethodSettings
from sskd.data.batch import Batch
from sskd.errors import UserError
from sskd.methods.base import METHODS, LossTerms, Method, MethodContext, MethodInfo
from sskd.methods.feature_maps import check_regressor, regressor
from sskd.networks import Features, FeatureShapes


class FitNetSettings(MethodSettings):
    weight: NonNegativeFloat = 1.0
    """The weight of the method's term."""
    tap: Annotated[int, Field(ge=0)] = 2
    """Index (from 0) of the hint and guided layer among the feature maps."""


@METHODS.register("fitnet")
class FitNet(Method):
    """Adds the hint loss of one pair of maps to cross-entropy, as in CRD's benchmark. The paper first trains on it
    alone."""

    Settings = FitNetSettings
    info = MethodInfo(
        "FitNet",
        "Romero et al., ICLR 2015, FitNets: Hints for Thin Deep Nets",
        2015,
        "an intermediate feature map",
        family="feature maps",
        url="https://arxiv.org/abs/1412.6550",
        code="https://github.com/adri-romsor/FitNets",
        formula=r"w \mathrm{MSE}(r(f^s_k), f^t_k)",
        where="$k$ is `tap` (2, counted from 0), and $r$ is a trained regressor: convolution, batch norm, ReLU.",
    )
    required_features = frozenset({"feature_maps"})
    term_weights = {"fitnet": "weight"}

    def __init__(self, settings: FitNetSettings, context: MethodContext) -> None:
        super().__init__(settings, context)
        _, teacher = context.teacher_side()
        tap = settings.tap
        self.regressor = regressor(context.student_shapes.feature_maps[tap], teacher.feature_maps[tap], relu=True)

    @classmethod
    def check(cls, settings: FitNetSettings, student: FeatureShapes, teacher: FeatureShapes) -> None:
        for side in (student, teacher):
            if settings.tap >= len(side.feature_maps):
                raise UserError(
                    f"method 'fitnet': {side.network} has no map at tap {settings.tap}; "
                    f"set tap between 0 and {len(side.feature_maps) - 1}"
                )
        check_regressor("fitnet", student, teacher, settings.tap)

    def loss_terms(self, student: Features, teacher: Features, batch: Batch) -> LossTerms:
        tap = self.settings.tap
        return LossTerms({"fitnet": F.mse_loss(self.regressor(student.feature_maps[tap]), teacher.feature_maps[tap])})
