"""WSLD (Zhou et al. 2021): KD with a weight per image that grows with the student's loss relative to the teacher's."""

import torch
from pydantic import NonNegativeFloat, PositiveFloat
from torch import Tensor
from torch.nn import functional as F

from sskd.config.settings import MethodSettings
from sskd.data.batch import Batch
from sskd.methods.base import METHODS, LossTerms, Method, MethodInfo
from sskd.networks import Features

EPSILON = 1e-7


def weighted_soft_labels(student: Tensor, teacher: Tensor, labels: Tensor, temperature: float) -> Tensor:
    """T^2 times the mean over images of w H(p_t(T), p_s(T)), with w = 1 - exp(-CE_s / CE_t), without gradient; 0-d.

    student, teacher: logits (B, C) float32. labels: (B,) int64. Zhou et al. 2021.
    """
    with torch.no_grad():
        student_loss, teacher_loss = (
            F.cross_entropy(logits, labels, reduction="none") for logits in (student, teacher)
        )
        weights = 1 - (-student_loss / (teacher_loss + EPSILON)).exp()
    soft = F.softmax(teacher / temperature, dim=1)
    rows = -(soft * F.log_softmax(student / temperature, dim=1)).sum(1)
    return temperature**2 * (weights * rows).mean()


class WSLDSettings(MethodSettings):
    weight: NonNegativeFloat = 2.25
    """The weight of the method's term: alpha in the paper."""
    temperature: PositiveFloat = 4.0
    """Temperature of the predictions of student and teacher."""


@METHODS.register("wsld")
class WSLD(Method):
    """Adds the weighted soft-label loss to cross-entropy."""

    Settings = WSLDSettings
    info = MethodInfo(
        "WSLD",
        "Zhou et al., ICLR 2021, Rethinking Soft Labels for Knowledge Distillation: A Bias-Variance Tradeoff "
        "Perspective",
        2021,
        "softened predictions, weighted per image",
        family="logits",
        url="https://arxiv.org/abs/2102.00650",
        code="https://github.com/bellymonster/Weighted-Soft-Label-Distillation",
        formula=r"- w T^2 \left\langle u \sum_c p^t_{T,c} \log p^s_{T,c} \right\rangle, \quad u = 1 - \exp \left( - "
        r"\frac{\mathrm{CE}^s}{\mathrm{CE}^t} \right)",
        where=r"$\mathrm{CE}^s$ and $\mathrm{CE}^t$ are the image's cross-entropies at temperature 1. No gradient "
        "passes through $u$.",
        differs="The settings for CIFAR-100 are from the authors' answer to a question (they retrained the teachers).",
    )
    required_features = frozenset({"logits", "labels"})
    term_weights = {"wsld": "weight"}

    def loss_terms(self, student: Features, teacher: Features, batch: Batch) -> LossTerms:
        loss = weighted_soft_labels(student.logits, teacher.logits, batch.labels, self.settings.temperature)
        return LossTerms({"wsld": loss})
