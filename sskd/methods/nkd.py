"""NKD (Yang et al. 2023): the target class, weighted by the teacher's confidence, and the non-target classes."""

from pydantic import NonNegativeFloat, PositiveFloat
from torch import Tensor
from torch.nn import functional as F

from sskd.config.settings import MethodSettings
from sskd.data.batch import Batch
from sskd.methods.base import METHODS, LossTerms, Method, MethodInfo
from sskd.methods.dkd import split_target
from sskd.networks import Features


def target_loss(student: Tensor, teacher: Tensor, labels: Tensor) -> Tensor:
    """Mean of -p_t log p_s of the target class at temperature 1; 0-d. Logits (B, C) float32, labels (B,) int64."""
    log_s = F.log_softmax(student, dim=1).gather(1, labels[:, None])
    return -(F.softmax(teacher, dim=1).gather(1, labels[:, None]) * log_s).mean()


def non_target_loss(student: Tensor, teacher: Tensor, labels: Tensor, temperature: float) -> Tensor:
    """T^2 times the mean cross-entropy between the softmaxes over the C - 1 non-target classes at T; 0-d.

    student, teacher: logits (B, C) float32. labels: (B,) int64. Yang et al. 2023.
    """
    (_, student_others), (_, teacher_others) = split_target(student, labels), split_target(teacher, labels)
    soft = F.softmax(teacher_others / temperature, dim=1)
    return -(temperature**2) * (soft * F.log_softmax(student_others / temperature, dim=1)).sum(1).mean()


class NKDSettings(MethodSettings):
    target_weight: NonNegativeFloat = 1.0
    """The weight of the term of the target class."""
    others_weight: NonNegativeFloat = 3.5
    """The weight of the term of the non-target classes: gamma in the paper."""
    temperature: PositiveFloat = 3.0
    """Temperature of the term of the non-target classes."""


@METHODS.register("nkd")
class NKD(Method):
    """Adds both terms to cross-entropy."""

    Settings = NKDSettings
    info = MethodInfo(
        "NKD",
        "Yang et al., ICCV 2023, From Knowledge Distillation to Self-Knowledge Distillation: A Unified Approach with "
        "Normalized Loss and Customized Soft Labels",
        2023,
        "the probability of the target class, and predictions of the non-target classes",
        family="logits",
        url="https://arxiv.org/abs/2303.13005",
        code="https://github.com/yzd-v/cls_KD",
        formula=r"\left\langle - w_1 p^t_y \log p^s_y - w_2 T^2 \sum_{c \neq y} q^t_c \log q^s_c \right\rangle",
        where="$p$ at temperature 1; $q$ is the softmax at $T$ over the classes other than the label. $w_1$ is "
        "`target_weight`, $w_2$ is `others_weight`.",
        differs="The settings for CIFAR-100 (T 3, weight 3.5) are those of the authors' own ResNet-34 and ResNet-18.",
    )
    required_features = frozenset({"logits", "labels"})
    term_weights = {"target": "target_weight", "others": "others_weight"}

    def loss_terms(self, student: Features, teacher: Features, batch: Batch) -> LossTerms:
        student_logits, teacher_logits, labels = student.logits, teacher.logits, batch.labels
        others = non_target_loss(student_logits, teacher_logits, labels, self.settings.temperature)
        return LossTerms({"target": target_loss(student_logits, teacher_logits, labels), "others": others})
