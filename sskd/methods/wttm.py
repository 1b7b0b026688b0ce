"""WTTM (Zheng and Yang 2024): TTM with a larger weight for images with a smoother prediction of the teacher."""

from pydantic import NonNegativeFloat, PositiveFloat
from torch import Tensor
from torch.nn import functional as F

from sskd.config.settings import MethodSettings
from sskd.data.batch import Batch
from sskd.methods.base import METHODS, LossTerms, Method, MethodInfo
from sskd.methods.ttm import transformed_matching
from sskd.networks import Features


def weighted_matching(student: Tensor, teacher: Tensor, gamma: float) -> Tensor:
    """Mean over images of TTM's divergence times the sum over classes of p_t^gamma (p_t at temperature 1); 0-d.

    student, teacher: logits (B, C) float32. Zheng and Yang 2024.
    """
    weights = (gamma * F.log_softmax(teacher, dim=1)).exp().sum(1)
    return (weights * transformed_matching(student, teacher, gamma)).mean()


class WTTMSettings(MethodSettings):
    weight: NonNegativeFloat = 2.25
    """The weight of the method's term: beta in the paper."""
    gamma: PositiveFloat = 0.1
    """Power of the teacher's probabilities, which have the temperature 1 / gamma."""


@METHODS.register("wttm")
class WTTM(Method):
    """Adds the weighted divergence to cross-entropy."""

    Settings = WTTMSettings
    info = MethodInfo(
        "WTTM",
        "Zheng and Yang, ICLR 2024, Knowledge Distillation Based on Transformed Teacher Matching",
        2024,
        "predictions, of which only the teacher's are softened, weighted per image",
        family="logits",
        url="https://arxiv.org/abs/2402.11148",
        code="https://github.com/zkxufo/TTM",
        formula=r"w \left\langle \left( \sum_c (p^t_c)^\gamma \right) \mathrm{KL}(r^t \Vert p^s) \right\rangle, \quad "
        r"r^t = \operatorname{softmax}(\gamma z^t)",
        differs="As for TTM.",
    )
    required_features = frozenset({"logits"})
    term_weights = {"wttm": "weight"}

    def loss_terms(self, student: Features, teacher: Features, batch: Batch) -> LossTerms:
        return LossTerms({"wttm": weighted_matching(student.logits, teacher.logits, self.settings.gamma)})
