"""CC (Peng et al. 2019), as in CRD's benchmark: penalises differences between student and teacher embeddings that occur
in the same dimensions for neighbouring images of the batch."""

from pydantic import NonNegativeFloat, PositiveInt
from torch import Tensor, nn

from sskd.config.settings import MethodSettings
from sskd.data.batch import Batch
from sskd.methods.base import METHODS, LossTerms, Method, MethodContext, MethodInfo
from sskd.networks import Features


def correlation_loss(student: Tensor, teacher: Tensor) -> Tensor:
    """Mean over the B - 1 pairs of neighbours of sum(d_i * d_i+1), d = abs(student - teacher); 0-d.

    student, teacher: (B, D) float32, B >= 2. Peng et al. 2019 as in CRD's benchmark, which uses neighbours instead of
    all pairs, and no kernel.
    """
    difference = (student - teacher).abs()
    return (difference[:-1] * difference[1:]).sum(dim=1).mean()


class CCSettings(MethodSettings):
    weight: NonNegativeFloat = 1.0
    """The weight of the method's term."""
    width: PositiveInt = 128
    """Dimension of the embeddings."""


@METHODS.register("cc")
class CC(Method):
    """Compares trained linear embeddings of the pooled features."""

    Settings = CCSettings
    info = MethodInfo(
        "CC",
        "Peng et al., ICCV 2019, Correlation Congruence for Knowledge Distillation",
        2019,
        "correlation of the embeddings of neighbouring images in a batch",
        family="relations",
        url="https://arxiv.org/abs/1904.01802",
        formula=r"\frac{w}{B - 1} \sum_{i=1}^{B-1} d_i \cdot d_{i+1}, \quad d = \left| e^s - e^t \right|",
        where="$e$ are trained linear embeddings of the pooled features $v$, one per network.",
    )
    required_features = frozenset({"pooled"})
    term_weights = {"cc": "weight"}

    def __init__(self, settings: CCSettings, context: MethodContext) -> None:
        super().__init__(settings, context)
        _, teacher = context.teacher_side()
        self.embed_student = nn.Linear(context.student_shapes.embed_dim, settings.width)
        self.embed_teacher = nn.Linear(teacher.embed_dim, settings.width)

    def loss_terms(self, student: Features, teacher: Features, batch: Batch) -> LossTerms:
        loss = correlation_loss(self.embed_student(student.pooled), self.embed_teacher(teacher.pooled))
        return LossTerms({"cc": loss})
