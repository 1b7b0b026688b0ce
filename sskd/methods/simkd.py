"""SimKD (Chen et al. 2022): the student's projected last map matches the teacher's, whose classifier the student
uses."""

import copy
from typing import Any

from pydantic import NonNegativeFloat, PositiveInt
from torch import Tensor, fx, nn
from torch.nn import functional as F

from sskd.config.settings import MethodSettings
from sskd.data.batch import Batch
from sskd.methods.base import METHODS, LossTerms, Method, MethodContext, MethodInfo
from sskd.methods.feature_maps import match_sizes
from sskd.networks import Features, Network
from sskd.networks.base import pool


def projector(in_channels: int, hidden: int, out_channels: int) -> nn.Sequential:
    """Returns 1x1, 3x3 and 1x1 convolutions without bias, each with batch norm and ReLU: (B, in_channels, H, W) to (B,
    out_channels, H, W). Chen et al. 2022, sec. 3.2."""
    layers: list[nn.Module] = []
    for before, after, kernel in ((in_channels, hidden, 1), (hidden, hidden, 3), (hidden, out_channels, 1)):
        convolution = nn.Conv2d(before, after, kernel, padding=kernel // 2, bias=False)
        layers += [convolution, nn.BatchNorm2d(after), nn.ReLU()]
    return nn.Sequential(*layers)


def no_larger(maps: Tensor, size: tuple[int, int]) -> Tensor:
    """Pools maps (B, C, H, H) to ``size`` if they are larger."""
    return F.adaptive_avg_pool2d(maps, size) if maps.shape[2] > size[0] else maps


fx.wrap("no_larger")  # one node of a traced graph, because its branch depends on the map's size


class Projected(Network):
    """A student that predicts with a projector and a frozen copy of the teacher's classifier.

    The student's own classifier, and a last convolution before it, are removed. A map larger than ``size``, the
    teacher's, is pooled to it before the projection.
    """

    tail = ("projector", "classifier")

    def __init__(self, student: Network, project: nn.Module, classifier: nn.Linear, size: tuple[int, int]) -> None:
        super().__init__()
        self.student, self.projector, self.size = student, project, size
        self.foldable, self.gives_preactivations = student.foldable, student.gives_preactivations
        self.classifier = copy.deepcopy(classifier).requires_grad_(False)

    def features(self, images: Tensor) -> Features:
        features = self.student.features(images)
        maps = features.pre_pool
        assert maps is not None
        pre_pool = self.projector(no_larger(maps, self.size))
        pooled = pool(pre_pool)
        logits = self.classifier(pooled)
        return Features(logits, features.feature_maps, pooled, features.preactivations, pre_pool)


class SimKDSettings(MethodSettings):
    weight: NonNegativeFloat = 1.0
    """The weight of the method's term."""
    factor: PositiveInt = 2
    """Channels of the teacher's last map divided by the projector's hidden channels."""


@METHODS.register("simkd")
class SimKD(Method):
    """Minimises only the mean squared error of the last maps, as published: ``ce_weight`` is 0."""

    Settings = SimKDSettings
    info = MethodInfo(
        "SimKD",
        "Chen et al., CVPR 2022, Knowledge Distillation with the Reused Teacher Classifier",
        2022,
        "the last feature map, and the teacher's classifier",
        family="feature maps",
        url="https://arxiv.org/abs/2203.14001",
        code="https://github.com/DefangChen/SimKD",
        formula=r"w \mathrm{MSE}(P(F^s), F^t)",
        where="$P$ is a trained projector (three convolutions). The student predicts with the teacher's classifier "
        "on the pooled $P(F^s)$.",
        differs="CE and KD have weight 0. What the authors call WRN-40-2, WRN-40-1 and WRN-16-2 are ResNets; their "
        "numbers for these are not comparable.",
    )
    required_features = frozenset({"pre_pool"})
    term_weights = {"simkd": "weight"}

    def __init__(self, settings: SimKDSettings, context: MethodContext) -> None:
        super().__init__(settings, context)
        self._context = context

    def predictor(self, student: Network) -> Network:
        teacher, teacher_shapes = self._context.teacher_side()
        student_shapes = self._context.student_shapes
        assert teacher_shapes.pre_pool is not None
        assert student_shapes.pre_pool is not None
        # a last convolution that changes the number of channels is removed together with the classifier
        widened = len(student.tail) > 1 and student_shapes.feature_maps[-1][0] != student_shapes.embed_dim
        in_channels = student_shapes.feature_maps[-1][0] if widened else student_shapes.pre_pool[0]
        for name in student.tail if widened else student.tail[-1:]:
            student.set_submodule(name, nn.Identity())
        out_channels = teacher_shapes.embed_dim
        project = projector(in_channels, out_channels // self.settings.factor, out_channels)
        return Projected(
            student, project, teacher.classifier_layer, (teacher_shapes.pre_pool[1], teacher_shapes.pre_pool[2])
        )

    def loss_terms(self, student: Features, teacher: Features, batch: Batch) -> LossTerms:
        student_map: Any = student.pre_pool
        teacher_map: Any = teacher.pre_pool
        return LossTerms({"simkd": F.mse_loss(*match_sizes(student_map, teacher_map))})
