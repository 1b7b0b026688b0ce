"""HSAKD (Yang et al. 2021): auxiliary classifiers on all feature maps learn the teacher's joint predictions of class
and rotation on four rotated views."""

import torch
from pydantic import NonNegativeFloat, PositiveFloat
from torch import Tensor

from sskd.config.settings import MethodSettings
from sskd.data.batch import Batch
from sskd.data.views import Rotated, ViewTransform
from sskd.errors import UserError
from sskd.losses import kd_divergence
from sskd.methods.base import METHODS, LossTerms, Method, MethodContext, MethodInfo
from sskd.networks import Features, FeatureShapes
from sskd.networks.auxiliary_classifiers import AuxiliaryClassifiers, count_classifiers
from sskd.pretext.hsakd import VIEWS


def classifier_divergence(student: Tensor, teacher: Tensor, temperature: float) -> Tensor:
    """Sum over auxiliary classifiers of T^2 KL of their scores, (levels, R, 4 C) float32 each; 0-d."""
    pairs = zip(student, teacher, strict=True)
    return torch.stack([kd_divergence(*pair, temperature) for pair in pairs]).sum()


class HSAKDSettings(MethodSettings):
    branch_weight: NonNegativeFloat = 1.0
    """The weight of the auxiliary classifiers' predictions of class and rotation."""
    logit_weight: NonNegativeFloat = 1.0
    """The weight of the networks' own predictions on rotated views."""
    temperature: PositiveFloat = 3.0
    """Temperature of the predictions of student and teacher."""


@METHODS.register("hsakd")
class HSAKD(Method):
    """Has two terms on all four views of each image: one of the auxiliary classifiers' scores, one of the logits. The
    student's auxiliary classifiers are trained with it; the network that is evaluated and saved does not have them."""

    Settings = HSAKDSettings
    info = MethodInfo(
        "HSAKD",
        "Yang et al., IJCAI 2021, Hierarchical Self-supervised Augmented Knowledge Distillation",
        2021,
        "joint predictions of class and rotation from every feature map",
        family="self-supervision",
        url="https://arxiv.org/abs/2107.13715",
        code="https://github.com/winycg/HSAKD",
        formula=r"w_b \sum_l T^2 \left\langle \mathrm{KL}(q^t_{l,T} \Vert q^s_{l,T}) \right\rangle + w_z T^2 "
        r"\left\langle \mathrm{KL}(p^t_T \Vert p^s_T) \right\rangle",
        where="Means over all four rotated views of each image. $q_l$ is the prediction of class and rotation "
        "together ($4 C$ classes) by the auxiliary classifier of map $l$. $w_b$ is `branch_weight`, $w_z$ is "
        "`logit_weight`.",
        differs="The teacher's auxiliary classifiers are trained in their own run (task `hsakd`) on the frozen "
        "teacher. With `pretext: {name: hsakd, joint: true}`, that run trains the teacher as well (HSAKD*). "
        "The authors use Nesterov's momentum, and their MobileNetV2 has a stem without stride.",
    )
    required_features = frozenset({"feature_maps", "logits"})
    term_weights = {"branches": "branch_weight", "turned_logits": "logit_weight"}
    needs_head = True
    views_per_image = 4
    head_task = "hsakd"
    stage_names = ("teacher's branches", "main")

    def __init__(self, settings: HSAKDSettings, context: MethodContext) -> None:
        super().__init__(settings, context)
        assert context.head is not None
        # in a tuple, so that the teacher's head is not a submodule and is not saved with the student
        self._teacher_head = (context.head,)
        self.branches = AuxiliaryClassifiers(context.student_shapes.network, VIEWS * context.num_classes)

    @classmethod
    def check(cls, settings: HSAKDSettings, student: FeatureShapes, teacher: FeatureShapes) -> None:
        student_count, teacher_count = count_classifiers(student.network), count_classifiers(teacher.network)
        if student_count != teacher_count:
            raise UserError(
                f"method 'hsakd' pairs the auxiliary classifiers in order, but {student.network} has "
                f"{student_count} and {teacher.network} has {teacher_count}; choose networks with equally many stages"
            )

    def view_transform(self) -> ViewTransform:
        return Rotated()

    def loss_terms(self, student: Features, teacher: Features, batch: Batch) -> LossTerms:
        temperature = self.settings.temperature
        with torch.no_grad():
            teacher_scores = self._teacher_head[0].read(teacher)
        student_scores = torch.stack(self.branches.read(student))
        losses = {
            "branches": classifier_divergence(student_scores, teacher_scores, temperature),
            "turned_logits": kd_divergence(student.logits, teacher.logits, temperature),
        }
        return LossTerms(losses)
