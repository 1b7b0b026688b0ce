"""NORM (Liu et al. 2023): the student's last map is expanded to N times the teacher's channels and matches N copies of
the teacher's map."""

from typing import Any

from pydantic import NonNegativeFloat, PositiveInt
from torch import Tensor, nn
from torch.nn import functional as F

from sskd.config.settings import MethodSettings
from sskd.data.batch import Batch
from sskd.errors import UserError
from sskd.methods.base import METHODS, LossTerms, Method, MethodContext, MethodInfo
from sskd.methods.feature_maps import check_pre_pool
from sskd.networks import Features, FeatureShapes, Network
from sskd.networks.base import fan_out_init, pool

EPSILON, SCALE = 1e-7, 2.5
STEPS = ((10, 0.1), (20, 0.5), (180, 1.0), (210, 0.5))  # (first epoch without it, factor of the term's weight)
AFTERWARDS = 0.1


def layer_normalised(logits: Tensor) -> Tensor:
    """Returns 2.5 (z - mean) / sqrt(variance + 1e-7) of each row of logits (B, C), with the denominator C in the
    variance."""
    return SCALE * F.layer_norm(logits, logits.shape[1:], eps=EPSILON)


def repeated_error(expanded: Tensor, teacher: Tensor, copies: int) -> Tensor:
    """Sum over N copies of the mean squared error to the teacher's map; 0-d. expanded: (B, N C, H, W). teacher: (B, C,
    H', W'), max-pooled to the student's size if it is larger."""
    if teacher.shape[2] > expanded.shape[2]:
        teacher = F.adaptive_max_pool2d(teacher, expanded.shape[2:])
    return copies * F.mse_loss(expanded, teacher.repeat(1, copies, 1, 1))


class Expanded(Network):
    """A student with a residual block before the pooling, which expands the last map and contracts it again.

    ``Features.pre_pool`` is the expanded map. If the student has a batch norm and ReLU between the last map and the
    pooling (WRN), they follow the block.
    """

    def __init__(self, student: Network, shapes: FeatureShapes, expanded: int) -> None:
        super().__init__()
        assert shapes.pre_pool is not None
        self.foldable, self.gives_preactivations = student.foldable, student.gives_preactivations
        self.tail = ("expand", "contract", f"student.{student.tail[-1]}")
        self.after = nn.Sequential()
        # a batch norm and ReLU follow the last map
        self._raw = len(student.tail) > 1 and shapes.feature_maps[-1][0] == shapes.pre_pool[0]
        channels = shapes.pre_pool[0]
        self.expand = nn.Sequential(nn.Conv2d(channels, expanded, 1, bias=False), nn.BatchNorm2d(expanded))
        self.contract = nn.Sequential(nn.Conv2d(expanded, channels, 1, bias=False), nn.BatchNorm2d(channels))
        fan_out_init(self)
        if self._raw:
            self.after = nn.Sequential(student.get_submodule(student.tail[0]), nn.ReLU())
            student.set_submodule(student.tail[0], nn.Identity())
        self.student = student

    def features(self, images: Tensor) -> Features:
        features = self.student.features(images)
        last: Any = features.feature_maps[-1] if self._raw else features.pre_pool
        expanded = self.expand(last)
        pooled = pool(self.after(last + self.contract(expanded)))
        logits = self.classifier_layer(pooled)
        return Features(logits, features.feature_maps, pooled, features.preactivations, expanded)


class NORMSettings(MethodSettings):
    weight: NonNegativeFloat = 1.0
    """The weight of the method's term: beta in the published code."""
    copies: PositiveInt = 8
    """Number of copies of the teacher's map: N in the paper."""


@METHODS.register("norm")
class NORM(Method):
    """The student keeps the expanding block. CE and KD use layer-normalised logits."""

    Settings = NORMSettings
    info = MethodInfo(
        "NORM",
        "Liu et al., ICLR 2023, NORM: Knowledge Distillation via N-to-One Representation Matching",
        2023,
        "the last feature map, matched N times",
        family="feature maps",
        url="https://arxiv.org/abs/2305.13803",
        code="https://github.com/OSVAI/NORM",
        formula=r"w N \mathrm{MSE} \left( u, [f^t_L, \ldots, f^t_L] \right), \quad u = "
        r"\mathrm{BN}(\operatorname{conv}_1(F^s))",
        where="$u$ has $N$ (`copies`) times the channels of the teacher's last map. The student continues from $F^s + "
        r"\mathrm{BN}(\operatorname{conv}_1(u))$. CE and KL use $2.5 (z - \bar z) / \sqrt{\sigma^2 + "
        "10^{-7}}$. $w$ is multiplied by 0.1, 0.5, 1, 0.5, 0.1 from the epochs 0, 10, 20, 180, 210 on.",
        differs="The weight of CE was searched per pair from 1/16 to 1/2 and is not published; the default is the "
        "README's 0.1. The authors train 241 epochs. Their MobileNetV2 lacks its last ReLU, and their "
        "ShuffleNets cannot be trained; here the networks are those of all methods.",
    )
    required_features = frozenset({"feature_maps", "pre_pool", "logits"})
    term_weights = {"norm": "weight"}
    first_epoch = 0

    def __init__(self, settings: NORMSettings, context: MethodContext) -> None:
        super().__init__(settings, context)
        self._shapes = context.student_shapes
        self._expanded = settings.copies * context.teacher_side()[1].feature_maps[-1][0]

    @classmethod
    def check(cls, settings: NORMSettings, student: FeatureShapes, teacher: FeatureShapes) -> None:
        check_pre_pool("norm", student, student)
        if student.pre_pool is not None and student.pre_pool[1] > teacher.feature_maps[-1][1]:
            raise UserError(
                f"method 'norm' pools the teacher's last map to the student's size, but that of {student.network} "
                f"(side {student.pre_pool[1]}) is larger than that of {teacher.network} (side "
                f"{teacher.feature_maps[-1][1]}); choose another pair"
            )

    def predictor(self, student: Network) -> Network:
        return Expanded(student, self._shapes, self._expanded)

    def schedule(self, term: str, epoch: float) -> float:
        steps = next((factor for until, factor in STEPS if epoch < until), AFTERWARDS) if term == "norm" else 1.0
        return steps * super().schedule(term, epoch)

    def forward(self, student: Features, teacher: Features | None, batch: Batch) -> tuple[Tensor, LossTerms]:
        teacher = None if teacher is None else teacher._replace(logits=layer_normalised(teacher.logits))
        return super().forward(student._replace(logits=layer_normalised(student.logits)), teacher, batch)

    def loss_terms(self, student: Features, teacher: Features, batch: Batch) -> LossTerms:
        assert student.pre_pool is not None
        return LossTerms({"norm": repeated_error(student.pre_pool, teacher.feature_maps[-1], self.settings.copies)})
