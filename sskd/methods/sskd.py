"""SSKD (Xu et al., ECCV 2020): KD, also on transformed views (L_T) and for a self-supervised pretext task (L_ss)."""

from typing import Any, ClassVar

import torch
from pydantic import NonNegativeFloat, PositiveFloat
from torch import Tensor

from sskd.config.fields import Probability
from sskd.config.settings import MethodSettings
from sskd.data.batch import Batch
from sskd.data.views import SingleView, ViewTransform
from sskd.losses import kd_divergence
from sskd.methods.base import METHODS, LossTerms, Method, MethodContext, MethodInfo
from sskd.networks import Features
from sskd.pretext.base import TransferConfig
from sskd.pretext.selection import keep_mask, ranks, transformed
from sskd.runtime.device import constant


class Settings(MethodSettings):
    """The published loss is 0.1 CE + 0.9 L_kd + 2.7 L_T + 10 L_ss. Terms with weight 0 are not computed."""

    t_weight: NonNegativeFloat = 2.7
    """The weight of L_T: predictions on transformed views."""
    t_temperature: PositiveFloat = 4.0
    """Temperature of L_T."""
    t_keep: Probability = 1.0
    """Fraction of the teacher's wrong predictions on transformed views that L_T uses, those that rank the target class
    highest first. All right predictions are used."""
    ss_weight: NonNegativeFloat = 10.0
    """The weight of L_ss: the self-supervised task's predictions."""
    ss_temperature: PositiveFloat = 0.5
    """Temperature of L_ss."""
    ss_keep: Probability = 0.75
    """Fraction of the teacher head's wrong predictions that L_ss uses, those that rank the right answer highest first.
    All right predictions are used."""


@METHODS.register("sskd")
class SSKD(Method):
    """Adds two terms to CE and KD: "t" (L_T) compares the logits of transformed views, "ss" (L_ss) the outputs of both
    networks' heads for the pretext task. The student's head is trained together with the student; the teacher's is
    frozen."""

    Settings: ClassVar[type[MethodSettings]] = Settings
    info = MethodInfo(
        "SSKD",
        "Xu et al., ECCV 2020, Knowledge Distillation Meets Self-Supervision",
        2020,
        "predictions on transformed views, and the selected answers to a self-supervised task",
        family="self-supervision",
        url="https://arxiv.org/abs/2006.07114",
        code="https://github.com/xuguodong03/SSKD",
        formula=r"w_T \frac{T^2}{n_T} \sum_{j \in J_T} \mathrm{KL}(p^t_{T,j} \Vert p^s_{T,j}) + w_{ss} "
        r"\frac{\tau^2}{n_{ss}} \sum_{j \in J_{ss}} \mathrm{KL} \left( \operatorname{softmax}(S^t_j / \tau) "
        r"\Vert \operatorname{softmax}(S^s_j / \tau) \right)",
        where="$S_{jk}$ is the cosine of the head's outputs for the transformed view $j$ and the normal image $k$ "
        "of the batch. $J$ are the $n$ transformed views that are kept: all on which the teacher is right, "
        "and of the others the share `t_keep` (1) or `ss_keep` (0.75) for which it ranks the right answer "
        r"highest. $T$ is `t_temperature` (4), $\tau$ is `ss_temperature` (0.5), $w_T$ is `t_weight`, $w_{ss}$ "
        "is `ss_weight`. CE and KL use the normal images.",
        differs="See docs/differences.md.",
    )
    required_features = frozenset({"logits", "pooled", "labels"})
    term_weights = {"t": "t_weight", "ss": "ss_weight"}
    needs_head = True
    views_per_image = 4

    def __init__(self, settings: Any, context: MethodContext) -> None:
        super().__init__(settings, context)
        assert context.head is not None
        self.required_features = self.required_features | context.head.required_features  # type: ignore[misc]
        # in a tuple, so that the teacher's head is not a submodule and is not saved with the student
        self._teacher_head = (context.head,)
        kind, shapes = type(context.head), context.student_shapes
        if settings.ss_weight > 0:
            own = context.head.context._replace(embed_dim=shapes.embed_dim, network=shapes.network)
            self.head = kind(context.head.settings, own)

    def view_transform(self) -> ViewTransform:
        transfers = self.settings.t_weight > 0 or self.settings.ss_weight > 0
        head = self._teacher_head[0]
        return head.view_transform(head.settings) if transfers else SingleView()

    def loss_terms(self, student: Features, teacher: Features, batch: Batch) -> LossTerms:
        settings = self.settings
        losses: dict[str, Tensor] = {}
        logged: dict[str, Tensor] = {}
        if settings.t_weight > 0:
            student_logits, teacher_logits = (transformed(f.logits, batch.views_per_image) for f in (student, teacher))
            if settings.t_keep < 1:
                labels = batch.labels.repeat_interleave(batch.views_per_image - 1)
                kept = keep_mask(ranks(teacher_logits, labels), settings.t_keep)
                logged["t_kept"] = kept.float().mean()
            else:  # published value: all are kept, so no ranking is needed
                kept = constant((True,) * len(teacher_logits), torch.bool, teacher_logits.device)
                logged["t_kept"] = constant(1.0, torch.float32, teacher_logits.device)
            losses["t"] = kd_divergence(
                student_logits, teacher_logits, settings.t_temperature, kept, settings.divergence
            )
        if settings.ss_weight > 0:
            config = TransferConfig(settings.ss_temperature, settings.ss_keep, settings.divergence)
            student_output, teacher_output = self.head.read(student), self._teacher_head[0].read(teacher)
            transfer = self.head.transfer(student_output, teacher_output, batch, config)
            losses["ss"] = transfer.loss
            logged |= transfer.logged
        return LossTerms(losses, logged)
