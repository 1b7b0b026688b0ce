"""TTM (Zheng and Yang 2024): KD in which only the teacher's predictions are softened, by a power transform."""

from pydantic import NonNegativeFloat, PositiveFloat
from torch import Tensor
from torch.nn import functional as F

from sskd.config.settings import MethodSettings
from sskd.data.batch import Batch
from sskd.methods.base import METHODS, LossTerms, Method, MethodInfo
from sskd.networks import Features


def transformed_matching(student: Tensor, teacher: Tensor, gamma: float) -> Tensor:
    """Returns KL(p_t^gamma, normalised || p_s) of each image, (B,). student, teacher: logits (B, C) float32.

    Zheng and Yang 2024: the power gamma of the teacher's probabilities corresponds to the temperature 1 / gamma.
    """
    log_t = F.log_softmax(gamma * teacher, dim=1)
    return (log_t.exp() * (log_t - F.log_softmax(student, dim=1))).sum(1)


class TTMSettings(MethodSettings):
    weight: NonNegativeFloat = 45.0
    """The weight of the method's term: beta in the paper. Published values differ widely between pairs."""
    gamma: PositiveFloat = 0.1
    """Power of the teacher's probabilities, which have the temperature 1 / gamma."""


@METHODS.register("ttm")
class TTM(Method):
    """Adds the divergence from the transformed teacher to cross-entropy."""

    Settings = TTMSettings
    info = MethodInfo(
        "TTM",
        "Zheng and Yang, ICLR 2024, Knowledge Distillation Based on Transformed Teacher Matching",
        2024,
        "predictions, of which only the teacher's are softened",
        family="logits",
        url="https://arxiv.org/abs/2402.11148",
        code="https://github.com/zkxufo/TTM",
        formula=r"w \left\langle \mathrm{KL}(r^t \Vert p^s) \right\rangle, \quad r^t = \operatorname{softmax}(\gamma "
        "z^t)",
        differs="In the paper's table for same-type pairs the row labels are shifted by one row. The settings here "
        "correct the shift, so that they match the two commands in the authors' README.",
    )
    required_features = frozenset({"logits"})
    term_weights = {"ttm": "weight"}

    def loss_terms(self, student: Features, teacher: Features, batch: Batch) -> LossTerms:
        return LossTerms({"ttm": transformed_matching(student.logits, teacher.logits, self.settings.gamma).mean()})
