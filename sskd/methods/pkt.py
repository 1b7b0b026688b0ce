"""PKT (Passalis & Tefas 2018): the conditional probabilities between images of a batch match the teacher's."""

from pydantic import NonNegativeFloat
from torch import Tensor
from torch.nn import functional as F

from sskd.config.settings import MethodSettings
from sskd.data.batch import Batch
from sskd.methods.base import METHODS, LossTerms, Method, MethodInfo
from sskd.networks import Features

EPSILON = 1e-7


def neighbour_probabilities(features: Tensor) -> Tensor:
    """Returns cosine similarities mapped to [0, 1], with rows divided by their sum: (B, D) to (B, B)."""
    unit = F.normalize(features, dim=1)
    similarities = (unit @ unit.T + 1) / 2
    return similarities / similarities.sum(dim=1, keepdim=True)


def probability_loss(student: Tensor, teacher: Tensor) -> Tensor:
    """Mean over B x B of p_t log((p_t + eps) / (p_s + eps)); 0-d. Passalis & Tefas 2018, cosine kernel.

    student, teacher: pooled features (B, D) float32; D may differ.
    """
    student_probabilities, teacher_probabilities = neighbour_probabilities(student), neighbour_probabilities(teacher)
    return (
        teacher_probabilities * ((teacher_probabilities + EPSILON) / (student_probabilities + EPSILON)).log()
    ).mean()


class PKTSettings(MethodSettings):
    weight: NonNegativeFloat = 1.0
    """The weight of the method's term."""


@METHODS.register("pkt")
class PKT(Method):
    """Compares the pooled features of student and teacher."""

    Settings = PKTSettings
    info = MethodInfo(
        "PKT",
        "Passalis & Tefas, ECCV 2018, Learning Deep Representations with Probabilistic Knowledge Transfer",
        2018,
        "probabilities that images of a batch are neighbours",
        family="relations",
        url="https://arxiv.org/abs/1803.10837",
        code="https://github.com/passalis/probabilistic_kt",
        formula=r"\frac{w}{B^2} \sum_{i,j} \pi^t_{ij} \log \frac{\pi^t_{ij} + 10^{-7}}{\pi^s_{ij} + 10^{-7}}, \quad "
        r"\pi_{ij} = \frac{\cos(v_i, v_j) + 1}{\sum_k (\cos(v_i, v_k) + 1)}",
    )
    required_features = frozenset({"pooled"})
    term_weights = {"pkt": "weight"}

    def loss_terms(self, student: Features, teacher: Features, batch: Batch) -> LossTerms:
        return LossTerms({"pkt": probability_loss(student.pooled, teacher.pooled)})
