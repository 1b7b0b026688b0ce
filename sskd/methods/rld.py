"""RLD (Sun et al. 2025): KD of the teacher's logits after a correction by the labels."""

from pydantic import NonNegativeFloat, PositiveFloat
from torch import Tensor

from sskd.config.settings import MethodSettings
from sskd.data.batch import Batch
from sskd.losses import divergences, standardised
from sskd.methods.base import METHODS, LossTerms, Method, MethodInfo
from sskd.methods.dkd import binary_logits, split_target
from sskd.networks import Features

FAR = -1e9  # a masked logit; not -inf, which gives NaN if all classes are masked


def sample_confidence(student: Tensor, teacher: Tensor, labels: Tensor, temperature: float) -> Tensor:
    """SCD of Sun et al. 2025: T^2 times the mean KL from the teacher's binary probabilities (largest, rest) to the
    student's (target class, rest); 0-d. student, teacher: logits (B, C) float32. labels: (B,) int64."""
    binary_s = binary_logits(*split_target(student, labels), temperature)
    binary_t = binary_logits(*split_target(teacher, teacher.argmax(1)), temperature)
    return temperature**2 * divergences(binary_s, binary_t).mean()


def masked_correlation(student: Tensor, teacher: Tensor, labels: Tensor, temperature: float) -> Tensor:
    """MCD of Sun et al. 2025: T^2 times the mean KL between softmaxes over the classes that the teacher ranks below the
    label; 0-d. Images without such classes count 0. student, teacher: logits (B, C) float32. labels: (B,) int64."""
    above = teacher >= teacher.gather(1, labels[:, None])
    student, teacher = ((logits / temperature).masked_fill(above, FAR) for logits in (student, teacher))
    return temperature**2 * divergences(student, teacher).mean()


class RLDSettings(MethodSettings):
    sample_weight: NonNegativeFloat = 1.0
    """The weight of sample confidence distillation: alpha in the paper."""
    masked_weight: NonNegativeFloat = 8.0
    """The weight of masked correlation distillation: beta in the paper."""
    sample_temperature: PositiveFloat = 1.0
    """Temperature of sample confidence distillation."""
    temperature: PositiveFloat = 4.0
    """Temperature of masked correlation distillation."""
    standardise: bool = False
    """Standardise the logits of student and teacher (LSKD: Sun et al. 2024)."""


@METHODS.register("rld")
class RLD(Method):
    """Adds both terms to cross-entropy. The published warm-up of their weights is 20 epochs."""

    Settings = RLDSettings
    info = MethodInfo(
        "RLD",
        "Sun et al., ICCV 2025, Knowledge Distillation with Refined Logits",
        2025,
        "predictions, without the classes that the teacher ranks above the label",
        family="logits",
        url="https://arxiv.org/abs/2408.07703",
        code="https://github.com/zju-SWJ/RLD",
        formula=r"w_1 T_1^2 \left\langle \mathrm{KL}(m^t \Vert b^s) \right\rangle + w_2 T^2 \left\langle "
        r"\mathrm{KL}(u^t \Vert u^s) \right\rangle",
        where=r"$m^t = (\max_c p^t_c, 1 - \max_c p^t_c)$ and $b^s = (p^s_y, 1 - p^s_y)$ at the temperature $T_1$ "
        "(`sample_temperature`); $u$ is the softmax at $T$ over the classes whose teacher logit is below that "
        "of the label. $w_1$ is `sample_weight`, $w_2$ is `masked_weight`.",
        differs="The code has temperature 1 in the first part and beta 8 for all pairs; the paper (according to "
        "notes) has one temperature and beta 4, tuned per pair. If the teacher is correct on every image and "
        "the temperatures are equal, RLD is DKD.",
    )
    required_features = frozenset({"logits", "labels"})
    term_weights = {"sample": "sample_weight", "masked": "masked_weight"}

    def loss_terms(self, student: Features, teacher: Features, batch: Batch) -> LossTerms:
        logits, settings = (student.logits, teacher.logits), self.settings
        if settings.standardise:
            logits = (standardised(logits[0]), standardised(logits[1]))
        sample = sample_confidence(*logits, batch.labels, settings.sample_temperature)
        return LossTerms({"sample": sample, "masked": masked_correlation(*logits, batch.labels, settings.temperature)})
