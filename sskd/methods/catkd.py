"""CAT-KD (Guo et al. 2023): the student's class activation maps match the teacher's."""

import torch
from pydantic import NonNegativeFloat, PositiveInt
from torch import Tensor, nn
from torch.nn import functional as F

from sskd.config.settings import MethodSettings
from sskd.data.batch import Batch
from sskd.methods.base import METHODS, LossTerms, Method, MethodContext, MethodInfo
from sskd.networks import Features


def class_maps(pre_pool: Tensor, classifier: nn.Linear) -> Tensor:
    """Applies the classifier as a 1x1 convolution without bias to the map before pooling: (B, D, H, W) to class
    activation maps (B, C, H, W). Their spatial mean equals the logits without bias."""
    return F.conv2d(pre_pool, classifier.weight[:, :, None, None])


def class_attention_loss(student: Tensor, teacher: Tensor, size: int, normalise: bool) -> Tensor:
    """Mean squared error of class activation maps (B, C, H, W), pooled to size x size and scaled to unit length if
    ``normalise``; 0-d. Guo et al. 2023, as in the published code."""
    student_pooled, teacher_pooled = (
        F.adaptive_avg_pool2d(maps, (size, size)).flatten(2) for maps in (student, teacher)
    )
    if normalise:
        student_pooled, teacher_pooled = F.normalize(student_pooled, dim=2), F.normalize(teacher_pooled, dim=2)
    return F.mse_loss(student_pooled, teacher_pooled)


class CATKDSettings(MethodSettings):
    weight: NonNegativeFloat = 15.0
    """The weight of the method's term: beta in the paper. Published values differ widely between pairs."""
    size: PositiveInt = 2
    """Side, in positions, to which class activation maps are pooled."""
    normalise: bool = False
    """Scale the pooled class activation maps to unit length."""


@METHODS.register("catkd")
class CATKD(Method):
    """The published code moves the classifiers of both networks before the pooling and drops their bias. Here,
    equivalently, the maps use the classifier's weights, and the student's bias is zero and not trained."""

    Settings = CATKDSettings
    info = MethodInfo(
        "CAT-KD",
        "Guo et al., CVPR 2023, Class Attention Transfer Based Knowledge Distillation",
        2023,
        "class activation maps",
        family="feature maps",
        url="https://arxiv.org/abs/2304.12777",
        code="https://github.com/GzyAftermath/CAT-KD",
        formula=r"w \mathrm{MSE}(A^s, A^t)",
        where="$A$ are the class activation maps (the classifier without bias as a 1 x 1 convolution on $F$), "
        "pooled to `size` x `size`; with `normalise`, each is scaled to unit length.",
        differs="The paper (according to notes) always normalises the maps and sums over pixels, which is size^2 "
        "times the code's mean; here as in the code. The authors' rebuilt classifiers have no bias; here the "
        "student's bias is zero and not trained.",
    )
    required_features = frozenset({"pre_pool"})
    term_weights = {"catkd": "weight"}

    def __init__(self, settings: CATKDSettings, context: MethodContext) -> None:
        super().__init__(settings, context)
        teacher, _ = context.teacher_side()
        # in a tuple, so that they are not submodules
        self._classifiers = (context.student.classifier_layer, teacher.classifier_layer)
        bias = self._classifiers[0].bias
        if bias is not None:
            with torch.no_grad():
                bias.zero_()
            bias.requires_grad_(False)

    def loss_terms(self, student: Features, teacher: Features, batch: Batch) -> LossTerms:
        assert student.pre_pool is not None
        assert teacher.pre_pool is not None
        pairs = zip((student.pre_pool, teacher.pre_pool), self._classifiers, strict=True)
        student_maps, teacher_maps = (class_maps(maps, classifier) for maps, classifier in pairs)
        loss = class_attention_loss(student_maps, teacher_maps.detach(), self.settings.size, self.settings.normalise)
        return LossTerms({"catkd": loss})
