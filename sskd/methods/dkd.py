"""DKD (Zhao et al. 2022): KD decoupled into a term of the target class (TCKD) and one of the non-target classes
(NCKD)."""

import torch
from pydantic import NonNegativeFloat, PositiveFloat
from torch import Tensor

from sskd.config.settings import MethodSettings
from sskd.data.batch import Batch
from sskd.losses import kd_divergence, standardised
from sskd.methods.base import METHODS, LossTerms, Method, MethodInfo
from sskd.networks import Features


def decoupled_divergences(
    student: Tensor, teacher: Tensor, labels: Tensor, temperature: float | Tensor
) -> tuple[Tensor, Tensor]:
    """Returns TCKD and NCKD (0-d): T^2 times the mean KL divergence of the binary (target, non-target) probabilities,
    and of the softmax over the non-target classes.

    student, teacher: logits (B, C) float32. labels: (B,) int64. Zhao et al. 2022, sec. 3: KD of an image is TCKD + (1 -
    p) NCKD, with p the teacher's probability of the target class.
    """
    target_s, others_s = split_target(student, labels)
    target_t, others_t = split_target(teacher, labels)
    binary_s = binary_logits(target_s, others_s, temperature)
    binary_t = binary_logits(target_t, others_t, temperature)
    target_class = temperature**2 * kd_divergence(binary_s, binary_t, 1.0)
    return target_class, kd_divergence(others_s, others_t, temperature)


def split_target(logits: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
    """Splits logits (B, C) into those of the target class (B, 1) and of the non-target classes (B, C - 1), in order."""
    columns = torch.arange(logits.shape[1] - 1, device=logits.device)
    others = columns + (columns >= labels[:, None])
    return logits.gather(1, labels[:, None]), logits.gather(1, others)


def binary_logits(target: Tensor, others: Tensor, temperature: float | Tensor) -> Tensor:
    """Returns logits (B, 2) whose softmax is (p, 1 - p), with p the probability of the target class. target, others:
    from ``split_target``. temperature: a number, or (B, 1)."""
    return torch.cat([target / temperature, (others / temperature).logsumexp(dim=1, keepdim=True)], dim=1)


class DKDSettings(MethodSettings):
    tckd_weight: NonNegativeFloat = 1.0
    """The weight of the term of the target class: alpha in the paper."""
    nckd_weight: NonNegativeFloat = 8.0
    """The weight of the term of the non-target classes: beta in the paper."""
    temperature: PositiveFloat = 4.0
    """Temperature of the predictions of student and teacher."""
    standardise: bool = False
    """Standardise the logits of student and teacher (LSKD: Sun et al. 2024)."""


@METHODS.register("dkd")
class DKD(Method):
    """Adds both terms to cross-entropy. The published warm-up of their weights is 20 epochs."""

    Settings = DKDSettings
    info = MethodInfo(
        "DKD",
        "Zhao et al., CVPR 2022, Decoupled Knowledge Distillation",
        2022,
        "predictions, separately for the target class and for the non-target classes",
        family="logits",
        url="https://arxiv.org/abs/2203.08679",
        code="https://github.com/megvii-research/mdistiller",
        formula=r"T^2 \left\langle \alpha \mathrm{KL}(b^t \Vert b^s) + \beta \mathrm{KL}(q^t \Vert q^s) \right\rangle",
        where="$b = (p_y, 1 - p_y)$, and $q$ is the softmax over the $C - 1$ non-target classes, both at temperature "
        r"$T$. $\alpha$ is `tckd_weight`, $\beta$ is `nckd_weight`.",
        differs="On ImageNet the paper's weight of the first part is 0.5, the code's 1. For wrn_40_2/ShuffleV1 the "
        "paper's weight of the second part is 6, the code's configuration has 8. The code subtracts 1000 from "
        "the label's logit; here the logit is left out, which is equivalent.",
    )
    paper_names = {"alpha": "tckd_weight", "beta": "nckd_weight"}
    required_features = frozenset({"logits", "labels"})
    term_weights = {"tckd": "tckd_weight", "nckd": "nckd_weight"}

    def loss_terms(self, student: Features, teacher: Features, batch: Batch) -> LossTerms:
        student_logits, teacher_logits = student.logits, teacher.logits
        if self.settings.standardise:
            student_logits, teacher_logits = standardised(student_logits), standardised(teacher_logits)
        tckd, nckd = decoupled_divergences(student_logits, teacher_logits, batch.labels, self.settings.temperature)
        return LossTerms({"tckd": tckd, "nckd": nckd})
