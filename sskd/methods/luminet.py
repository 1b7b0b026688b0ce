"""LumiNet (Hossain et al. 2023): KD of logits that are standardised per class over the batch."""

from pydantic import NonNegativeFloat, PositiveFloat
from torch import Tensor

from sskd.config.settings import MethodSettings
from sskd.data.batch import Batch
from sskd.losses import divergences
from sskd.methods.base import METHODS, LossTerms, Method, MethodInfo
from sskd.networks import Features

EPSILON = 1e-5


def perception(logits: Tensor) -> Tensor:
    """Standardises logits (B, C) float32 per class over the batch: (z - mean) / sqrt(variance + 1e-5), with the
    denominator B in the variance. Hossain et al. 2023."""
    centred = logits - logits.mean(0)
    return centred / (centred.square().mean(0) + EPSILON).sqrt()


class LumiNetSettings(MethodSettings):
    weight: NonNegativeFloat = 1089.0
    """The weight of the method's term: the square of the factor in the published code."""
    temperature: PositiveFloat = 4.0
    """Temperature of the predictions of student and teacher. The term has no factor T^2."""


@METHODS.register("luminet")
class LumiNet(Method):
    """The published warm-up of its weight is 20 epochs. Gradients pass through the batch mean and variance."""

    Settings = LumiNetSettings
    info = MethodInfo(
        "LumiNet",
        "Hossain et al., arXiv 2023, LumiNet: The Bright Side of Perceptual Knowledge Distillation",
        2023,
        "predictions, standardised per class over the batch",
        family="logits",
        url="https://arxiv.org/abs/2310.03669",
        code="https://github.com/ismail31416/LumiNet",
        formula=r"w \left\langle \mathrm{KL} \left( \operatorname{softmax}(h^t / T) \Vert \operatorname{softmax}(h^s / "
        r"T) \right) \right\rangle, \quad h = \frac{z - \mu}{\sqrt{\sigma^2 + 10^{-5}}}",
        where=r"$\mu$ and $\sigma^2$ are the mean and the variance of each class's logits over the batch.",
        differs="Five pairs have published settings; all others have those of resnet32x4/resnet8x4.",
    )
    required_features = frozenset({"logits"})
    term_weights = {"luminet": "weight"}

    def loss_terms(self, student: Features, teacher: Features, batch: Batch) -> LossTerms:
        perceived = perception(student.logits), perception(teacher.logits)
        return LossTerms({"luminet": divergences(*perceived, self.settings.temperature).mean()})
