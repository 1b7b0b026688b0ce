"""NormKD (Chi et al. 2023): KD or DKD with a temperature per image, proportional to the standard deviation of its
logits."""

from typing import Literal

from pydantic import NonNegativeFloat, PositiveFloat
from torch import Tensor

from sskd.config.settings import MethodSettings
from sskd.data.batch import Batch
from sskd.losses import divergences
from sskd.methods.base import METHODS, LossTerms, Method, MethodInfo
from sskd.methods.dkd import binary_logits, split_target
from sskd.networks import Features


class NormKDSettings(MethodSettings):
    """The published weights for each host are in configs/methods.yaml."""

    host: Literal["kd", "dkd"] = "kd"
    """Method whose loss gets a temperature per image."""
    weight: NonNegativeFloat = 0.9
    """The weight of the KL, if the host is kd."""
    tckd_weight: NonNegativeFloat = 4.0
    """The weight of the term of the target class, if the host is dkd."""
    nckd_weight: NonNegativeFloat = 5.0
    """The weight of the term of the non-target classes, if the host is dkd."""
    deviations: PositiveFloat = 2.0
    """Temperature of an image in standard deviations of its logits: T_norm in the paper."""


@METHODS.register("normkd")
class NormKD(Method):
    """Student and teacher have their own temperatures. Gradients pass through the student's."""

    Settings = NormKDSettings
    info = MethodInfo(
        "NormKD",
        "Chi et al., arXiv 2023, NormKD: Normalized Logits for Knowledge Distillation",
        2023,
        "predictions, softened by the standard deviation of each image's logits",
        family="logits",
        url="https://arxiv.org/abs/2308.00520",
        code="https://github.com/gizi1/NormKD",
        formula=r"w \left\langle d_t^2 \mathrm{KL} \left( \operatorname{softmax}(z^t / d_t) \Vert "
        r"\operatorname{softmax}(z^s / d_s) \right) \right\rangle",
        where="$d$ is `deviations` times the standard deviation of the image's logits. With `host: dkd`, the two "
        "parts of DKD on $z / d$, each image's multiplied by $d_t^2$.",
    )
    required_features = frozenset({"logits", "labels"})

    @property
    def loss_weights(self) -> dict[str, float]:
        settings = self.settings
        if settings.host == "kd":
            return {"normkd": settings.weight}
        return {"tckd": settings.tckd_weight, "nckd": settings.nckd_weight}

    def loss_terms(self, student: Features, teacher: Features, batch: Batch) -> LossTerms:
        (normed_s, _), (normed_t, temperature) = self.normed(student.logits), self.normed(teacher.logits)
        if self.settings.host == "kd":
            rows = {"normkd": divergences(normed_s, normed_t)}
        else:
            split_s, split_t = split_target(normed_s, batch.labels), split_target(normed_t, batch.labels)
            binary = divergences(binary_logits(*split_s, 1.0), binary_logits(*split_t, 1.0))
            rows = {"tckd": binary, "nckd": divergences(split_s[1], split_t[1])}
        return LossTerms({name: (temperature**2 * row).mean() for name, row in rows.items()})

    def normed(self, logits: Tensor) -> tuple[Tensor, Tensor]:
        """Returns logits (B, C) divided by their temperatures, and the temperatures (B,)."""
        temperature = self.settings.deviations * logits.std(1)
        return logits / temperature[:, None], temperature
