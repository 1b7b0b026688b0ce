"""SRRL (Yang et al. 2021): the student's pooled features match the teacher's, and so do the teacher's classifier's
logits of both."""

from pydantic import NonNegativeFloat
from torch import nn
from torch.nn import functional as F

from sskd.config.settings import MethodSettings
from sskd.data.batch import Batch
from sskd.methods.base import METHODS, LossTerms, Method, MethodContext, MethodInfo
from sskd.networks import Features


class SRRLSettings(MethodSettings):
    feature_weight: NonNegativeFloat = 1.0
    """The weight of the features' mean squared error."""
    logit_weight: NonNegativeFloat = 1.0
    """The weight of the mean squared error of the teacher's classifier's logits."""


@METHODS.register("srrl")
class SRRL(Method):
    """Keeps the teacher's classifier frozen. The student predicts with its own."""

    Settings = SRRLSettings
    info = MethodInfo(
        "SRRL",
        "Yang et al., ICLR 2021, Knowledge Distillation via Softmax Regression Representation Learning",
        2021,
        "pooled features, and the teacher's logits for them",
        family="feature maps",
        url="https://openreview.net/forum?id=ZzwDy_wiWv",
        code="https://github.com/jingyang2017/KD_SRRL",
        formula=r"w_1 \mathrm{MSE}(\phi, v^t) + w_2 \mathrm{MSE}(h(\phi), z^t), \quad \phi = "
        r"\operatorname{ReLU}(\mathrm{BN}(A v^s))",
        where="$A$ is a trained matrix, $h$ the teacher's classifier; $w_1$ is `feature_weight`, $w_2$ is "
        "`logit_weight`.",
        differs="With CE and KL(4), as in SimKD's repository for CIFAR-100. The authors' repository has ImageNet "
        "only; they searched both weights per pair and did not keep them.",
    )
    required_features = frozenset({"pooled", "logits"})
    term_weights = {"features": "feature_weight", "regression": "logit_weight"}

    def __init__(self, settings: SRRLSettings, context: MethodContext) -> None:
        super().__init__(settings, context)
        teacher, teacher_shapes = context.teacher_side()
        embed_dim, out_dim = context.student_shapes.embed_dim, teacher_shapes.embed_dim
        linear = nn.Linear(embed_dim, out_dim, bias=False)
        self.connector = nn.Sequential(linear, nn.BatchNorm1d(out_dim), nn.ReLU())
        self._classifier = (teacher.classifier_layer,)  # in a tuple, so that it is not a submodule

    def loss_terms(self, student: Features, teacher: Features, batch: Batch) -> LossTerms:
        connected = self.connector(student.pooled)
        read = self._classifier[0](connected)
        features, logits = F.mse_loss(connected, teacher.pooled), F.mse_loss(read, teacher.logits)
        return LossTerms({"features": features, "regression": logits})
