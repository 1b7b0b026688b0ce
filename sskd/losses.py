"""Losses that more than one method uses."""

from typing import Literal

import torch
from torch import Tensor
from torch.nn import functional as F

from sskd.runtime.device import constant

Divergence = Literal["kl", "cross_entropy"]


def standardised(logits: Tensor) -> Tensor:
    """(z - mean) / (standard deviation + 1e-7) of each row of logits (B, C) float32, in the same shape.

    The deviation has C - 1 in its denominator, as the code of Sun et al. (CVPR 2024, Logit Standardization in Knowledge
    Distillation); the paper has C, and no 1e-7.
    """
    return (logits - logits.mean(1, keepdim=True)) / (logits.std(1, keepdim=True) + 1e-7)


def divergences(student: Tensor, teacher: Tensor, temperature: float | Tensor = 1.0) -> Tensor:
    """KL(softmax(teacher / T) || softmax(student / T)) of each row, (R, C) float32 to (R,), without the factor T^2."""
    log_student = F.log_softmax(student / temperature, dim=1)
    log_teacher = F.log_softmax(teacher / temperature, dim=1)
    return (log_teacher.exp() * (log_teacher - log_student)).sum(1)


def kd_divergence(
    student: Tensor,
    teacher: Tensor,
    temperature: float | Tensor,
    kept: Tensor | None = None,
    kind: Divergence = "kl",
) -> Tensor:
    """T^2 / K * sum over the K kept rows of KL(softmax(teacher / T) || softmax(student / T)), a 0-d tensor.

    student, teacher: (R, C) float32 scores. kept: (R,) bool, None for all rows; where no row is kept, the loss and its
    gradient are zero. ``kind`` "cross_entropy" leaves out the teacher's entropy, as papers often write it, which has
    the same gradient and another value. Hinton et al. 2015; the factor T^2 keeps the scale of the gradient.
    """
    log_student = F.log_softmax(student / temperature, dim=1)
    log_teacher = F.log_softmax(teacher / temperature, dim=1)
    gap = log_teacher - log_student if kind == "kl" else -log_student
    rows = (log_teacher.exp() * gap).sum(1)
    if kept is None:
        return rows.sum() * (temperature**2 / max(len(rows), 1))
    kept_rows = torch.where(kept, rows, constant(0.0, rows.dtype, rows.device))
    return kept_rows.sum() * temperature**2 / kept.sum().clamp(min=1)
