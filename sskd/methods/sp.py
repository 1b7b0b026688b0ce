"""SP (Tung & Mori 2019): similarities between the images of a batch match the teacher's."""

from pydantic import NonNegativeFloat
from torch import Tensor
from torch.nn import functional as F

from sskd.config.settings import MethodSettings
from sskd.data.batch import Batch
from sskd.methods.base import METHODS, LossTerms, Method, MethodInfo
from sskd.networks import Features


def similarities(maps: Tensor) -> Tensor:
    """Returns inner products (B, B) of flattened maps (B, C, H, W), with rows scaled to unit length."""
    flat = maps.flatten(1)
    return F.normalize(flat @ flat.T, dim=1)


def similarity_loss(student: Tensor, teacher: Tensor) -> Tensor:
    """Squared Frobenius distance of the similarity matrices, divided by B^2; 0-d.

    student, teacher: maps (B, C, H, W) float32; channels and sizes may differ. Tung & Mori 2019, sec. 3.
    """
    return F.mse_loss(similarities(student), similarities(teacher))


class SPSettings(MethodSettings):
    weight: NonNegativeFloat = 1.0
    """The weight of the method's term."""


@METHODS.register("sp")
class SP(Method):
    """Compares the last feature maps of student and teacher."""

    Settings = SPSettings
    info = MethodInfo(
        "SP",
        "Tung & Mori, ICCV 2019, Similarity-Preserving Knowledge Distillation",
        2019,
        "similarities of the images of a batch, from the last feature map",
        family="relations",
        url="https://arxiv.org/abs/1907.09682",
        formula=r"\frac{w}{B^2} \lVert G^s - G^t \rVert^2",
        where=r"$G$ is $Q Q^{\top}$ with rows scaled to unit length; $Q$ has a row per image, its last map.",
    )
    required_features = frozenset({"feature_maps"})
    term_weights = {"sp": "weight"}

    def loss_terms(self, student: Features, teacher: Features, batch: Batch) -> LossTerms:
        return LossTerms({"sp": similarity_loss(student.feature_maps[-1], teacher.feature_maps[-1])})
