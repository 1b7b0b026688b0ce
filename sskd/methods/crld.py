"""CRLD (Zhang et al. 2024): predictions on a weak and a strong view match within and across views, where sure."""

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


def is_sure(teacher: Tensor, threshold: float) -> Tensor:
    """(B,) bool: whether the teacher's largest probability is at least the threshold. Logits (B, C) float32."""
    return F.softmax(teacher, dim=1).amax(1) >= threshold


class CRLDSettings(MethodSettings):
    """The strong view's cross-entropy has ``ce_weight``, as the weak view's."""

    within_weight: NonNegativeFloat = 2.0
    """The weight of what is compared within each view."""
    across_weight: NonNegativeFloat = 0.5
    """The weight of what is compared across views."""
    temperature: PositiveFloat = 4.0
    """The temperature that softens both sides' predictions."""
    weak_threshold: Probability = 0.9
    """The teacher's confidence on the weak view from which an image counts within views."""
    strong_threshold: Probability = 0.2
    """The teacher's confidence on the strong view from which an image counts across views."""


@METHODS.register("crld")
class CRLD(Method):
    """Images of which the teacher is not sure count as zero in the mean over the batch."""

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

        within = is_sure(weak_t, settings.weak_threshold) * (kl(weak_s, weak_t) + kl(strong_s, strong_t))
        across = is_sure(strong_t, settings.strong_threshold) * (kl(strong_s, weak_t) + kl(weak_s, strong_t))
        ce_strong = self.cross_entropy(strong_s, batch)
        return LossTerms({"ce_strong": ce_strong, "within": within.mean(), "across": across.mean()})
