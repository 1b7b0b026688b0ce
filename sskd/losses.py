"""Losses that several methods use."""

from typing import Literal

import torch
from torch import Tensor
from torch.nn import functional as F

from sskd.runtime.device import constant

Divergence = Literal["kl", "cross_entropy"]


def standardised(logits: Tensor) -> Tensor:
    """Standardises each row of logits (B, C) float32: (z - mean) / (standard deviation + 1e-7).

    As in the code of Sun et al. (CVPR 2024, Logit Standardization in Knowledge Distillation), the standard deviation
    has the denominator C - 1; the paper has C, and no 1e-7.
    """
    return (logits - logits.mean(1, keepdim=True)) / (logits.std(1, keepdim=True) + 1e-7)


def divergences(student: Tensor, teacher: Tensor, temperature: float | Tensor = 1.0, kind: Divergence = "kl") -> Tensor:
    """Returns KL(softmax(teacher / T) || softmax(student / T)) of each row, (R, C) float32 to (R,), without a factor
    T^2. kind: "cross_entropy" leaves out the teacher's entropy, which changes the value but not the gradient."""
    log_student = F.log_softmax(student / temperature, dim=1)
    log_teacher = F.log_softmax(teacher / temperature, dim=1)
    gap = log_teacher - log_student if kind == "kl" else -log_student
    return (log_teacher.exp() * gap).sum(1)


def kd_divergence(
    student: Tensor,
    teacher: Tensor,
    temperature: float | Tensor,
    kept: Tensor | None = None,
    kind: Divergence = "kl",
) -> Tensor:
    """Returns T^2 times the mean over the selected rows of KL(softmax(teacher / T) || softmax(student / T)); 0-d.

    student, teacher: (R, C) float32 scores. kept: (R,) bool; None: all rows. If no row is kept, the loss and its
    gradient are zero. kind: see ``divergences``. Hinton et al. 2015; the factor T^2 makes the scale of the gradient
    independent of T.
    """
    rows = divergences(student, teacher, temperature, kind)
    if kept is None:
        return rows.sum() * (temperature**2 / max(len(rows), 1))
    kept_rows = torch.where(kept, rows, constant(0.0, rows.dtype, rows.device))
    return kept_rows.sum() * temperature**2 / kept.sum().clamp(min=1)
