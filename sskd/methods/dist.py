"""DIST (Huang et al. 2022): maximises the correlation of predictions with the teacher's, per image and per class."""

from pydantic import NonNegativeFloat, PositiveFloat
from torch import Tensor
from torch.nn import functional as F

from sskd.config.settings import MethodSettings
from sskd.data.batch import Batch
from sskd.methods.base import METHODS, LossTerms, Method, MethodInfo
from sskd.networks import Features

EPSILON = 1e-8


def mean_correlation(a: Tensor, b: Tensor) -> Tensor:
    """Mean over rows of Pearson's correlation between the rows of ``a`` and ``b``, both (R, N); 0-d."""
    a, b = a - a.mean(1, keepdim=True), b - b.mean(1, keepdim=True)
    return ((a * b).sum(1) / (a.norm(dim=1) * b.norm(dim=1) + EPSILON)).mean()


def relation_losses(student: Tensor, teacher: Tensor, temperature: float) -> tuple[Tensor, Tensor]:
    """Returns the inter-class and intra-class losses, 0-d: T^2 (1 - correlation) of the rows (images) and columns
    (classes) of the softened predictions.

    student, teacher: logits (B, C) float32. Huang et al. 2022, sec. 4; the factor T^2 is from the published code.
    """
    p_s, p_t = F.softmax(student / temperature, dim=1), F.softmax(teacher / temperature, dim=1)
    inter, intra = 1 - mean_correlation(p_s, p_t), 1 - mean_correlation(p_s.T, p_t.T)
    return temperature**2 * inter, temperature**2 * intra


class DISTSettings(MethodSettings):
    inter_weight: NonNegativeFloat = 2.0
    """The weight of correlations between the classes of each image."""
    intra_weight: NonNegativeFloat = 2.0
    """The weight of correlations between the images of each class."""
    temperature: PositiveFloat = 4.0
    """Temperature of the predictions of student and teacher."""


@METHODS.register("dist")
class DIST(Method):
    """Adds both correlation losses to cross-entropy."""

    Settings = DISTSettings
    info = MethodInfo(
        "DIST",
        "Huang et al., NeurIPS 2022, Knowledge Distillation from A Stronger Teacher",
        2022,
        "correlations of the predictions, over classes and over images",
        family="logits",
        url="https://arxiv.org/abs/2205.10536",
        code="https://github.com/hunto/image_classification_sota",
        formula=r"T^2 \left[ w_1 \left( 1 - \frac{1}{B} \sum_i \rho(p^s_{i \cdot}, p^t_{i \cdot}) \right) + w_2 \left( "
        r"1 - \frac{1}{C} \sum_c \rho(p^s_{\cdot c}, p^t_{\cdot c}) \right) \right]",
        where=r"$\rho$ is Pearson's correlation, of an image's predictions at temperature $T$ (row $i$) and of a "
        "class's predictions over the batch (column $c$). $w_1$ is `inter_weight`, $w_2$ is `intra_weight`.",
        differs="The paper's appendix has no T^2, which at T = 4 is a weight 16 times smaller; here as in the code.",
    )
    required_features = frozenset({"logits"})
    term_weights = {"inter": "inter_weight", "intra": "intra_weight"}

    def loss_terms(self, student: Features, teacher: Features, batch: Batch) -> LossTerms:
        inter, intra = relation_losses(student.logits, teacher.logits, self.settings.temperature)
        return LossTerms({"inter": inter, "intra": intra})
