"""DIST (Huang et al. 2022): predictions correlate with the teacher's, within each image and within each class."""

from pydantic import NonNegativeFloat, PositiveFloat
from torch import Tensor
from torch.nn import functional as F

from sskd.config.settings import MethodSettings
from sskd.data.batch import Batch
from sskd.methods.base import METHODS, LossTerms, Method, MethodInfo
from sskd.networks import Features

EPSILON = 1e-8


def mean_correlation(a: Tensor, b: Tensor) -> Tensor:
    """Pearson's correlation of each row of ``a`` with that of ``b``, both (R, N), a mean over rows; 0-d."""
    a, b = a - a.mean(1, keepdim=True), b - b.mean(1, keepdim=True)
    return ((a * b).sum(1) / (a.norm(dim=1) * b.norm(dim=1) + EPSILON)).mean()


def relation_losses(student: Tensor, teacher: Tensor, temperature: float) -> tuple[Tensor, Tensor]:
    """Inter and intra: T^2 (1 - correlation) of the softened predictions' rows (images) and columns (classes); 0-d.

    Logits (B, C) float32. Huang et al. 2022, sec. 4; T^2 is the published code's, the paper has none.
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
    """The temperature that softens both sides' predictions."""


@METHODS.register("dist")
class DIST(Method):
    """Both correlations, beside cross-entropy."""

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
