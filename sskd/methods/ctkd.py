"""CTKD (Li et al. 2023): KD or DKD with a temperature that is trained adversarially, to increase the loss."""

import math
from typing import Any, Literal

import torch
from pydantic import NonNegativeFloat, PositiveFloat
from torch import Tensor, nn

from sskd.config.settings import MethodSettings
from sskd.data.batch import Batch
from sskd.losses import kd_divergence, standardised
from sskd.methods.base import METHODS, LossTerms, Method, MethodContext, MethodInfo
from sskd.methods.dkd import decoupled_divergences
from sskd.networks import Features

LOWEST, RANGE = 1.0, 20.0  # the temperature is between 1 and 21


def gradient_factor(epoch: float, rising_epochs: float) -> float:
    """Returns the factor of theta's gradient in ``epoch`` (from 1): (cos(pi min(e, E) / E) + 1) / 2 - 1, as in the
    published code. It falls from about 0 to -1 over E = ``rising_epochs``; because it is negative, the optimiser
    increases the loss with respect to theta."""
    return (math.cos(math.pi * min(epoch, rising_epochs) / rising_epochs) + 1) / 2 - 1


class _ScaledGradient(torch.autograd.Function):
    """Identity in the forward pass; multiplies the gradient by a 0-d tensor."""

    @staticmethod
    def forward(ctx: Any, value: Tensor, factor: Tensor) -> Tensor:
        ctx.save_for_backward(factor)
        return value.view_as(value)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None]:
        return gradients[0] * ctx.saved_tensors[0], None


class Temperature(nn.Module):
    """Trained temperature tau = 1 + 20 sigmoid(theta), 0-d. theta starts at 1; its gradient is multiplied by
    ``factor``."""

    factor: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.theta = nn.Parameter(torch.ones(1))
        self.register_buffer("factor", torch.zeros(()), persistent=False)  # a tensor, for CUDA graphs: see Method.ramp

    def forward(self) -> Tensor:
        theta: Tensor = _ScaledGradient.apply(self.theta, self.factor)
        return (LOWEST + RANGE * theta.sigmoid())[0]


class CTKDSettings(MethodSettings):
    """The published weights for each host are in configs/methods.yaml."""

    host: Literal["kd", "dkd"] = "kd"
    """Method whose term gets the learned temperature."""
    weight: NonNegativeFloat = 0.9
    """The weight of KL(tau), if the host is kd."""
    tckd_weight: NonNegativeFloat = 1.0
    """The weight of the term of the target class, if the host is dkd."""
    nckd_weight: NonNegativeFloat = 8.0
    """The weight of the term of the non-target classes, if the host is dkd."""
    rising_epochs: PositiveFloat = 10.0
    """Epochs of the full schedule until the factor of the temperature's gradient reaches -1."""
    standardise: bool = False
    """Standardise the logits of student and teacher (LSKD: Sun et al. 2024)."""


@METHODS.register("ctkd")
class CTKD(Method):
    """The temperature is one scalar. The student's optimiser trains it, with the same learning rate and weight
    decay."""

    Settings = CTKDSettings
    info = MethodInfo(
        "CTKD",
        "Li et al., AAAI 2023, Curriculum Temperature for Knowledge Distillation",
        2023,
        "softened predictions, at a temperature that is trained to increase the loss",
        family="logits",
        url="https://arxiv.org/abs/2211.16231",
        code="https://github.com/zhengli97/CTKD",
        formula=r"w \tau^2 \left\langle \mathrm{KL}(p^t_\tau \Vert p^s_\tau) \right\rangle, \quad \tau = 1 + 20 "
        r"\operatorname{sigmoid}(\theta)",
        where=r"With `host: dkd`, DKD at $T = \tau$ instead. The gradient of the trained scalar $\theta$ is "
        r"multiplied by $(\cos(\pi \min(e, E) / E) + 1) / 2 - 1$, where $e$ is the epoch (from 1) and $E$ is "
        r"`rising_epochs`. This factor is negative, so $\tau$ grows.",
        differs="The published code lacks the module of the README's per-image temperature, so it is left out. In "
        "LSKD's copy of CTKD the switch is inverted (its authors agree); here `standardise` does what it "
        "says.",
    )
    required_features = frozenset({"logits", "labels"})

    def __init__(self, settings: CTKDSettings, context: MethodContext) -> None:
        super().__init__(settings, context)
        self.temperature = Temperature()
        self.begin_epoch(0)

    @property
    def loss_weights(self) -> dict[str, float]:
        settings = self.settings
        if settings.host == "kd":
            return {"ctkd": settings.weight}
        return {"tckd": settings.tckd_weight, "nckd": settings.nckd_weight}

    def begin_epoch(self, epoch: int) -> None:
        super().begin_epoch(epoch)
        self.temperature.factor.fill_(gradient_factor(self.epochs_at(epoch), self.settings.rising_epochs))

    def loss_terms(self, student: Features, teacher: Features, batch: Batch) -> LossTerms:
        student_logits, teacher_logits = student.logits, teacher.logits
        if self.settings.standardise:
            student_logits, teacher_logits = standardised(student_logits), standardised(teacher_logits)
        tau = self.temperature()
        logged = {"temperature": tau.detach()}
        if self.settings.host == "kd":
            return LossTerms({"ctkd": kd_divergence(student_logits, teacher_logits, tau)}, logged)
        tckd, nckd = decoupled_divergences(student_logits, teacher_logits, batch.labels, tau)
        return LossTerms({"tckd": tckd, "nckd": nckd}, logged)
