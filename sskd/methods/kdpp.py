"""KD++ (Wang et al. 2023): KD or DKD, and a loss of the norm and direction of the pooled features."""

from collections.abc import Iterable
from typing import Literal

import torch
from pydantic import NonNegativeFloat, PositiveFloat
from torch import Tensor, nn

from sskd.config.settings import MethodSettings
from sskd.data.batch import Batch
from sskd.methods.base import METHODS, LossTerms, Method, MethodContext, MethodInfo
from sskd.methods.dkd import decoupled_divergences
from sskd.networks import Features

TINY = 1e-12
DIGITS = 4  # of the rounded class means, as published


def norm_and_direction(student: Tensor, teacher: Tensor, means: Tensor) -> Tensor:
    """Mean of 1 - v_s . c / (|c| max(|v_s|, |v_t|)), with c the mean of the image's class; 0-d. student, teacher,
    means: (B, D) float32. Wang et al. 2023."""
    longer = torch.maximum(student.norm(dim=1), teacher.norm(dim=1))
    return (1 - (student * means).sum(1) / (means.norm(dim=1) * longer).clamp(min=TINY)).mean()


class KDPPSettings(MethodSettings):
    """``kd_weight`` and ``kd_temperature`` belong to the host if it is kd."""

    host: Literal["kd", "dkd"] = "kd"
    """Method that the loss of the features is added to."""
    nd_weight: NonNegativeFloat = 2.0
    """The weight of the features' norm and direction."""
    tckd_weight: NonNegativeFloat = 1.0
    """The weight of the term of the target class, if the host is dkd."""
    nckd_weight: NonNegativeFloat = 8.0
    """The weight of the term of the non-target classes, if the host is dkd."""
    temperature: PositiveFloat = 4.0
    """Temperature of the predictions of student and teacher, if the host is dkd."""
    rising_epochs: PositiveFloat = 20.0
    """Epochs of the full schedule in which the host's weight rises linearly from 0."""


@METHODS.register("kdpp")
class KDPP(Method):
    """Computes the class means once before the main training, from the teacher's pooled features of the augmented
    training images. The host's weight rises from 0; that of the features is constant."""

    Settings = KDPPSettings
    info = MethodInfo(
        "KD++",
        "Wang et al., arXiv 2023, Improving Knowledge Distillation via Regularizing Feature Norm and Direction",
        2023,
        "softened predictions, and norm and direction of the pooled features",
        family="feature maps",
        url="https://arxiv.org/abs/2305.17007",
        code="https://github.com/WangYZ1608/Knowledge-Distillation-via-ND",
        formula=r"w \left\langle 1 - \frac{\hat v^s \cdot c_y}{\lVert c_y \rVert \max(\lVert \hat v^s \rVert, \lVert "
        r"v^t \rVert)} \right\rangle",
        where=r"$c_y$ is the mean of the teacher's pooled features over the training images of class $y$. $\hat v^s$ "
        "is $v^s$, or a trained linear map of it (after batch norm and dropout) if the dimensions differ. The "
        "term of KD, or of DKD (`host: dkd`), is added; its weight rises over `rising_epochs`. $w$ is "
        "`nd_weight`.",
        differs="The authors' recipe has batch size 128, learning rate 0.1 and Nesterov's momentum; here all methods "
        "have one recipe. The class means come from the teacher here, from files in the code. DIST++ and "
        "ReviewKD++ are not implemented.",
    )
    required_features = frozenset({"logits", "pooled", "labels"})
    first_epoch = 0
    studies = "augmented"
    means: Tensor

    def __init__(self, settings: KDPPSettings, context: MethodContext) -> None:
        super().__init__(settings, context)
        _, teacher_shapes = context.teacher_side()
        embed_dim, teacher_dim = context.student_shapes.embed_dim, teacher_shapes.embed_dim
        self.widen = nn.Sequential()
        if embed_dim != teacher_dim:
            linear = nn.Linear(embed_dim, teacher_dim)
            nn.init.zeros_(linear.bias)
            self.widen = nn.Sequential(nn.BatchNorm1d(embed_dim), nn.Dropout(0.5), linear)
        self.register_buffer("means", torch.zeros(context.num_classes, teacher_dim))

    @property
    def loss_weights(self) -> dict[str, float]:
        settings = self.settings
        host = {"tckd": settings.tckd_weight, "nckd": settings.nckd_weight} if settings.host == "dkd" else {}
        return host | {"nd": settings.nd_weight}

    def schedule(self, term: str, epoch: float) -> float:
        rises = min(epoch / self.settings.rising_epochs, 1.0) if term in ("kd", "tckd", "nckd") else 1.0
        return rises * super().schedule(term, epoch)

    def study(self, seen: Iterable[tuple[Features, Tensor]]) -> None:
        sums, count = self.means.double().zero_(), self.means.new_zeros(len(self.means), dtype=torch.float64)
        for features, labels in seen:
            sums.index_add_(0, labels, features.pooled.double())
            count.index_add_(0, labels, torch.ones_like(labels, dtype=torch.float64))
        self.means.copy_((sums / count.clamp(min=1)[:, None]).round(decimals=DIGITS))

    def loss_terms(self, student: Features, teacher: Features, batch: Batch) -> LossTerms:
        losses: dict[str, Tensor] = {}
        if self.settings.host == "dkd":
            logits = student.logits, teacher.logits
            tckd, nckd = decoupled_divergences(*logits, batch.labels, self.settings.temperature)
            losses |= {"tckd": tckd, "nckd": nckd}
        widened = self.widen(student.pooled)
        return LossTerms(losses | {"nd": norm_and_direction(widened, teacher.pooled, self.means[batch.labels])})
