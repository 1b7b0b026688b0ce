"""SDD (Wei et al. 2024): KD, DKD or NKD of the predictions of image regions."""

from typing import Annotated, Literal

import torch
from pydantic import NonNegativeFloat, PositiveFloat, PositiveInt
from torch import Tensor, nn
from torch.nn import functional as F

from sskd.config.fields import TupleFromList
from sskd.config.settings import MethodSettings
from sskd.data.batch import Batch
from sskd.losses import divergences
from sskd.methods.base import METHODS, LossTerms, Method, MethodContext, MethodInfo
from sskd.methods.dkd import binary_logits, split_target
from sskd.networks import Features

CELLS = 4  # per side: maps are first pooled to 4 x 4


def region_logits(pre_pool: Tensor, classifier: nn.Linear, grids: tuple[int, ...]) -> Tensor:
    """Returns the logits (B, N, C) of N regions from the map before pooling (B, D, H, W). The regions are the cells of
    each grid, row by row; grid 1 is the whole image. Wei et al. 2024."""
    cells = F.adaptive_avg_pool2d(pre_pool, CELLS)
    pooled = torch.cat([F.adaptive_avg_pool2d(cells, grid).flatten(2) for grid in grids], dim=2)
    return F.linear(pooled.transpose(1, 2), classifier.weight, classifier.bias)


def region_weights(teacher: Tensor, labels: Tensor) -> Tensor:
    """Returns weights (B, N): 2 if the teacher is right on the whole image (region 0) and wrong on the region, or the
    reverse; else 1. teacher: logits (B, N, C). labels: (B,) int64."""
    right = teacher.argmax(2) == labels[:, None]
    return 1.0 + (right != right[:, :1])


class SDDSettings(MethodSettings):
    """The published weights for each host are in configs/methods.yaml."""

    host: Literal["kd", "dkd", "nkd"] = "kd"
    """Method whose loss is applied to each region."""
    weight: NonNegativeFloat = 0.9
    """The weight of the regions' KL, if the host is kd."""
    tckd_weight: NonNegativeFloat = 1.0
    """The weight of the term of the target class, if the host is dkd."""
    nckd_weight: NonNegativeFloat = 8.0
    """The weight of the term of the non-target classes, if the host is dkd."""
    target_weight: NonNegativeFloat = 1.0
    """The weight of the term of the target class, if the host is nkd."""
    others_weight: NonNegativeFloat = 8.0
    """The weight of the cross-entropy between softened predictions, if the host is nkd."""
    temperature: PositiveFloat = 4.0
    """Temperature of the predictions of student and teacher."""
    grids: Annotated[tuple[PositiveInt, ...], TupleFromList] = (1, 2)
    """Grids of regions: cells per side. The first is 1, the whole image."""


@METHODS.register("sdd")
class SDD(Method):
    """Applies the classifiers of both networks to regions of the last map; the student's is trained on the regions
    too."""

    Settings = SDDSettings
    info = MethodInfo(
        "SDD",
        "Wei et al., CVPR 2024, Scaled Decoupled Distillation",
        2024,
        "predictions of image regions",
        family="logits",
        url="https://arxiv.org/abs/2403.13512",
        code="https://github.com/shicaiwei123/SDD-CVPR2024",
        formula=r"\frac{1}{B N} \sum_{i=1}^B \sum_{n=1}^N w_{in} \ell(r^t_{in}, r^s_{in})",
        where="$r_{in}$ are the logits of region $n$ of image $i$: the classifier on the mean of the region's "
        "cells. $w_{in}$ is 2 if the teacher is right on the whole image and wrong on the region, or the "
        r"reverse; else 1. $\ell$ is the host's loss of one image: that of KD or DKD, or $- p^t_y \log p^s_y - "
        r"T^2 \sum_c p^t_{T,c} \log p^s_{T,c}$ (NKD), with the host's weights.",
        differs="With NKD the code intends to leave the label out of the cross-entropy, but its mask keeps it; here "
        "as in the code. The code clips gradients to norm 40 and replaces non-finite losses by 0; here "
        "neither is done. No grids are published for the same-type WRN pairs and resnet56/resnet20; they have "
        "{1, 2} as the other same-type pairs.",
    )
    required_features = frozenset({"pre_pool", "logits", "labels"})

    def __init__(self, settings: SDDSettings, context: MethodContext) -> None:
        super().__init__(settings, context)
        teacher, _ = context.teacher_side()
        # in a tuple, so that they are not submodules
        self._classifiers = (context.student.classifier_layer, teacher.classifier_layer)

    @property
    def loss_weights(self) -> dict[str, float]:
        settings = self.settings
        return {
            "kd": {"sdd": settings.weight},
            "dkd": {"tckd": settings.tckd_weight, "nckd": settings.nckd_weight},
            "nkd": {"target": settings.target_weight, "others": settings.others_weight},
        }[settings.host]

    def loss_terms(self, student: Features, teacher: Features, batch: Batch) -> LossTerms:
        assert student.pre_pool is not None
        assert teacher.pre_pool is not None
        maps = zip((student.pre_pool, teacher.pre_pool), self._classifiers, strict=True)
        of_student, of_teacher = (region_logits(each, layer, self.settings.grids) for each, layer in maps)
        return LossTerms(self.losses(of_student, of_teacher.detach(), batch.labels))

    def losses(self, student: Tensor, teacher: Tensor, labels: Tensor) -> dict[str, Tensor]:
        """Returns the host's terms, each 0-d. student, teacher: region logits (B, N, C). labels: (B,) int64."""
        weights = region_weights(teacher, labels).flatten()
        labels = labels.repeat_interleave(student.shape[1])
        student, teacher, t = student.flatten(0, 1), teacher.flatten(0, 1), self.settings.temperature
        if self.settings.host == "kd":
            rows = {"sdd": t**2 * divergences(student, teacher, t)}
        elif self.settings.host == "dkd":
            split_s, split_t = split_target(student, labels), split_target(teacher, labels)
            binary = divergences(binary_logits(*split_s, t), binary_logits(*split_t, t))
            rows = {"tckd": t**2 * binary, "nckd": t**2 * divergences(split_s[1], split_t[1], t)}
        else:
            target_s, target_t = (
                F.log_softmax(side, 1).gather(1, labels[:, None])[:, 0] for side in (student, teacher)
            )
            soft = F.softmax(teacher / t, dim=1)
            entropy = -(soft * F.log_softmax(student / t, dim=1)).sum(1)
            rows = {"target": -target_t.exp() * target_s, "others": t**2 * entropy}
        return {name: (weights * row).mean() for name, row in rows.items()}
