"""CRLD (Zhang et al. 2024): KD within and across a weakly and a strongly augmented view of each image, for images of
which the teacher is confident."""

from pydantic import NonNegativeFloat, PositiveFloat
from torch import Tensor
from torch.nn import functional as F

from sskd.config.fields import Probability
from sskd.config.settings import MethodSettings
from sskd.data.batch import Batch
from sskd.data.strong import WeakAndStrong
from sskd.data.views import ViewTransform
from sskd.losses import divergences
from sskd.methods.base import METHODS, LossTerms, Method, MethodInfo
from sskd.networks import Features


def is_confident(teacher: Tensor, threshold: float) -> Tensor:
    """Returns (B,) bool: True if the largest probability of the logits (B, C) float32 is at least ``threshold``."""
    return F.softmax(teacher, dim=1).amax(1) >= threshold


class CRLDSettings(MethodSettings):
    """``ce_weight`` is the weight of the cross-entropy of each view."""

    within_weight: NonNegativeFloat = 2.0
    """The weight of the terms within each view."""
    across_weight: NonNegativeFloat = 0.5
    """The weight of the terms across views."""
    temperature: PositiveFloat = 4.0
    """Temperature of the predictions of student and teacher."""
    weak_threshold: Probability = 0.9
    """Minimum confidence of the teacher on the weak view for the terms within views."""
    strong_threshold: Probability = 0.2
    """Minimum confidence of the teacher on the strong view for the terms across views."""


@METHODS.register("crld")
class CRLD(Method):
    """Images with a confidence below the threshold count as zero in the batch mean."""

    Settings = CRLDSettings
    info = MethodInfo(
        "CRLD",
        "Zhang et al., ACM MM 2024, Cross-View Consistency Regularisation for Knowledge Distillation",
        2024,
        "predictions on two views, within and across views",
        family="logits",
        url="https://arxiv.org/abs/2412.16493",
        formula=r"w_{ce} \mathrm{CE}(y, \tilde z^s) + w_1 \left\langle k_w (K_{ww} + K_{ss}) \right\rangle + w_2 "
        r"\left\langle k_s (K_{sw} + K_{ws}) \right\rangle",
        where="$K_{ab}$ is the term of KD of one image, from the student's view $a$ to the teacher's view $b$ (weak "
        "or strong). $k_w$ is 1 if the teacher's largest probability on the weak view is at least 0.9 "
        "(`weak_threshold`), $k_s$ if that on the strong view is at least 0.2 (`strong_threshold`); else 0. "
        r"$\mathrm{CE}(y, \tilde z^s)$ is that of the strong view; $w_1$ is `within_weight`, $w_2$ is "
        "`across_weight`.",
        differs="As in the code, k_w selects both terms within views and k_s both terms across views. DeepKD's copy "
        "has `within_weight` 0.5 for three pairs. Here both views go through the networks in one batch, in "
        "the code in two passes; this changes the statistics of batch norm.",
    )
    required_features = frozenset({"logits", "labels"})
    term_weights = {"ce_strong": "ce_weight", "within": "within_weight", "across": "across_weight"}
    views_per_image = 2

    def view_transform(self) -> ViewTransform:
        return WeakAndStrong()

    def loss_terms(self, student: Features, teacher: Features, batch: Batch) -> LossTerms:
        settings = self.settings
        weak_s, strong_s = student.logits[::2], student.logits[1::2]
        weak_t, strong_t = teacher.logits[::2], teacher.logits[1::2]

        def kl(of_student: Tensor, of_teacher: Tensor) -> Tensor:
            return settings.temperature**2 * divergences(of_student, of_teacher, settings.temperature)

        within = is_confident(weak_t, settings.weak_threshold) * (kl(weak_s, weak_t) + kl(strong_s, strong_t))
        across = is_confident(strong_t, settings.strong_threshold) * (kl(strong_s, weak_t) + kl(weak_s, strong_t))
        ce_strong = self.cross_entropy(strong_s, batch)
        return LossTerms({"ce_strong": ce_strong, "within": within.mean(), "across": across.mean()})
