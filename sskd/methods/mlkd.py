"""MLKD (Jin et al. 2023): KD at several temperatures, and of the correlations between images and between classes."""

from typing import Annotated

import torch
from pydantic import NonNegativeFloat, PositiveFloat
from torch import Tensor
from torch.nn import functional as F

from sskd.config.fields import TupleFromList
from sskd.config.settings import MethodSettings
from sskd.data.batch import Batch
from sskd.data.strong import WeakAndStrong
from sskd.data.views import ViewTransform
from sskd.losses import kd_divergence, standardised
from sskd.methods.base import METHODS, LossTerms, Method, MethodInfo
from sskd.networks import Features

# number of temperatures at which the strong view is used; at the others the published code uses the weak view again
STRONG_AT = 3


def class_correlation(student: Tensor, teacher: Tensor) -> Tensor:
    """Class-level loss |P_t' P_t - P_s' P_s|^2 / C of probabilities P (B, C) float32; 0-d. Jin et al. 2023."""
    return (teacher.T @ teacher - student.T @ student).square().sum() / student.shape[1]


def batch_correlation(student: Tensor, teacher: Tensor) -> Tensor:
    """Batch-level loss |P_t P_t' - P_s P_s'|^2 / B of probabilities P (B, C) float32; 0-d. Jin et al. 2023."""
    return (teacher @ teacher.T - student @ student.T).square().sum() / student.shape[0]


def share_up_to_median(values: Tensor) -> Tensor:
    """Returns the fraction of (N,) values that are at most their lower median; 0-d."""
    return (values <= values.median()).float().mean()


class MLKDSettings(MethodSettings):
    """``ce_weight`` is the weight of the cross-entropy of each view."""

    weight: NonNegativeFloat = 0.9
    """The weight of the instance, class and batch terms."""
    temperatures: Annotated[tuple[PositiveFloat, ...], TupleFromList] = (4.0, 3.0, 5.0, 2.0, 6.0)
    """Each term is a sum over these temperatures."""
    standardise: bool = False
    """Standardise the logits of student and teacher (LSKD: Sun et al. 2024) in the instance term."""


@METHODS.register("mlkd")
class MLKD(Method):
    """Computes all terms on the weak view, and the instance term on the strong view too. In the published code, the
    confidence masks (over images, over classes) multiply losses that are already reduced to a scalar. Their only effect
    is to scale the loss by the fraction of unmasked entries, so this code multiplies by that fraction directly."""

    Settings = MLKDSettings
    info = MethodInfo(
        "MLKD",
        "Jin et al., CVPR 2023, Multi-Level Logit Distillation",
        2023,
        "predictions on two views, and their correlations over images and over classes",
        family="logits",
        url="https://openaccess.thecvf.com/content/CVPR2023/html/Jin_Multi-Level_Logit_Distillation_CVPR_2023_paper.html",
        code="https://github.com/Jin-Ying/Multi-Level-Logit-Distillation",
        formula=r"w_{ce} \mathrm{CE}(y, \tilde z^s) + w \sum_T \left[ m_i K_T + \tilde K_T + \frac{m_c}{C} \lVert "
        r"P_t^{\top} P_t - P_s^{\top} P_s \rVert^2 + \frac{m_i}{B} \lVert P_t P_t^{\top} - P_s P_s^{\top} "
        r"\rVert^2 \right]",
        where=r"$K_T$ is the term of KD on the weak view, $\tilde K_T$ on the strong view, $P$ the matrix (images, "
        "classes) of $p_T$ on the weak view; $T$ runs over `temperatures`. $m_i$ is the share of images whose "
        "confidence (largest probability of the teacher) is at most the median, $m_c$ the share of classes "
        "whose summed probability is at most the median. The strong view's cross-entropy has the weight "
        "`ce_weight`.",
        differs="As in the code, including its oddities: the masks m_i and m_c are shares of the batch (both 1/2 if B "
        "and C are even), and at the last two temperatures the strong view's sum uses the weak logits. The "
        "paper (according to notes) has no masks. Published with 480 or 960 epochs, since September 2024 with "
        "240 for same-type pairs, at half the learning rate: set `method_recipes.mlkd`. Here both views go "
        "through the networks in one batch, in the code in two passes.",
    )
    required_features = frozenset({"logits", "labels"})
    term_weights = {"ce_strong": "ce_weight", "instance": "weight", "class": "weight", "batch": "weight"}
    views_per_image = 2

    def view_transform(self) -> ViewTransform:
        return WeakAndStrong()

    def loss_terms(self, student: Features, teacher: Features, batch: Batch) -> LossTerms:
        weak_s, strong_s = student.logits[::2], student.logits[1::2]
        weak_t, strong_t = teacher.logits[::2], teacher.logits[1::2]
        confidence = F.softmax(weak_t, dim=1)
        images = share_up_to_median(confidence.max(1).values)
        classes = share_up_to_median(confidence.sum(0))
        temperatures = self.settings.temperatures
        soft = [(F.softmax(weak_s / t, dim=1), F.softmax(weak_t / t, dim=1)) for t in temperatures]
        if self.settings.standardise:
            weak_s, strong_s, weak_t, strong_t = map(standardised, (weak_s, strong_s, weak_t, strong_t))
        weak = [kd_divergence(weak_s, weak_t, t) for t in temperatures]
        strong = [kd_divergence(strong_s, strong_t, t) for t in temperatures[:STRONG_AT]] + weak[STRONG_AT:]
        losses = {
            "ce_strong": self.cross_entropy(student.logits[1::2], batch),
            "instance": images * torch.stack(weak).sum() + torch.stack(strong).sum(),
            "class": classes * torch.stack([class_correlation(s, t) for s, t in soft]).sum(),
            "batch": images * torch.stack([batch_correlation(s, t) for s, t in soft]).sum(),
        }
        return LossTerms(losses)
