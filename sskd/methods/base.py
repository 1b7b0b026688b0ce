"""What a method is: settings, extra modules, perhaps an initial stage, and named loss terms."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, ClassVar, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from sskd.config.recipe import Recipe
from sskd.config.settings import MethodSettings
from sskd.data.batch import Batch
from sskd.data.views import SingleView, Views
from sskd.errors import UserError
from sskd.losses import softened_divergence
from sskd.networks import Features, FeatureShapes, Network
from sskd.registry import Registry

if TYPE_CHECKING:
    from sskd.pretext import Pretext


class MethodInfo(NamedTuple):
    """A row of the table of methods."""

    title: str  # as in the paper's tables: "FitNet"
    paper: str  # "Romero et al., ICLR 2015, FitNets: Hints for Thin Deep Nets"
    year: int
    transfers: str  # what goes from teacher to student, in a few words
    formula: str = ""  # the method's own terms, for docs/methods.md
    differs: str = ""  # where the paper and its published code part ways, and where this suite does otherwise than both


@dataclass(frozen=True)
class MethodContext:
    """What a method may build itself from."""

    student: Network
    student_shapes: FeatureShapes
    num_classes: int
    labels: Tensor  # (N,) int64: the split's training labels, in the order of Batch.indices
    teacher: Network | None = None
    teacher_shapes: FeatureShapes | None = None
    head: "Pretext | None" = None  # the teacher's trained head, frozen
    recipe: Recipe = field(default_factory=Recipe)  # of the main training

    def teacher_side(self) -> tuple[Network, FeatureShapes]:
        """The teacher and its shapes, for methods that have one for certain."""
        assert self.teacher is not None
        assert self.teacher_shapes is not None
        return self.teacher, self.teacher_shapes


class LossTerms(NamedTuple):
    """Named, unweighted loss terms (0-d, with gradient) and what is only logged (0-d, without)."""

    losses: dict[str, Tensor]
    logged: Mapping[str, Tensor] = {}


@dataclass(frozen=True)
class InitialStage:
    """Epochs before the main training. ``loss`` gets the student's features (None if ``uses_student`` is False), the
    teacher's and the batch, and returns unweighted terms that are summed; only ``trained`` modules are in train mode
    and are optimised, at a constant rate."""

    name: str
    epochs: int
    trained: Sequence[nn.Module]
    loss: Callable[[Features | None, Features, Batch], dict[str, Tensor]]
    learning_rate: float | None = None  # None: the recipe's
    uses_student: bool = True


class Method(nn.Module):
    """Base of every method. Its parameters are trained with the student, its state is saved and resumed with it.

    Student objective: ce_weight * CE + kd_weight * KL(kd_temperature) + sum of weights[name] * terms[name]; CE and KL
    over the images' normal views; in the first ``warmup_epochs`` the own terms' weights rise. A
    subclass sets ``info`` and ``needs``, and overrides ``loss_terms`` and ``loss_weights``.
    """

    Settings: ClassVar[type[MethodSettings]] = MethodSettings
    info: ClassVar[MethodInfo]
    # of teacher and student: "logits", "vector" (pooled features), "taps" (maps), "preactivations", "final" (map);
    # of the data: "labels", "indices"
    needs: ClassVar[frozenset[str]] = frozenset()
    needs_teacher: ClassVar[bool] = True
    needs_head: ClassVar[bool] = False
    head_task: ClassVar[str | None] = None  # the only pretext task whose head will do; None: any
    views_per_image: ClassVar[int] = 1  # that views() makes, for the cost of a plan
    stage_names: ClassVar[tuple[str, ...]] = ("main",)  # for the table; initial stages come first
    seed_shift: ClassVar[int] = 0  # added to the run's seed: a control that is another method with other seeds

    first_epoch: ClassVar[int] = 1  # what the first epoch counts as where weights rise with the epoch
    ramp: Tensor

    def __init__(self, settings: Any, context: MethodContext) -> None:
        super().__init__()
        self.settings = settings
        self._stretch = context.recipe.full_epochs / context.recipe.epochs
        # on the device, so that a step that was captured once sees the epoch's value
        self.register_buffer("ramp", torch.ones(()), persistent=False)

    @classmethod
    def check(cls, settings: Any, student: FeatureShapes, teacher: FeatureShapes) -> None:
        """Raises UserError, naming the taps, where these two networks cannot be used with the method."""

    def views(self) -> Views:
        """The views of each image that the student is trained on."""
        return SingleView()

    def predictor(self, student: Network) -> Network:
        """The network that is trained, measured and saved: the student, or what this method builds around it. Called
        once, before anything is trained; the features that ``loss_terms`` gets are this network's."""
        return student

    def initial_stages(self) -> list[InitialStage]:
        return []

    @property
    def loss_weights(self) -> dict[str, float]:
        """The weight of each of the method's own terms."""
        return {}

    def loss_terms(self, student: Features, teacher: Features, batch: Batch) -> LossTerms:
        """The method's own terms, unweighted. Feature tensors are float32; the teacher's carry no gradient."""
        return LossTerms({})

    def begin_epoch(self, epoch: int) -> None:
        """Called before each epoch (from 0) of the main stage, and when one is resumed: for what changes over time.
        Epochs are counted as of the recipe's full schedule, as its milestones are: all scale together."""
        if self.settings.warmup_epochs > 0:
            self.ramp.fill_(min(self.epochs_at(epoch) / self.settings.warmup_epochs, 1.0))

    def epochs_at(self, epoch: int) -> float:
        """What ``epoch`` (from 0) counts as in the full schedule: the published code's epoch number."""
        return (epoch + self.first_epoch) * self._stretch

    def softened(self, logits: Tensor) -> Tensor:
        """What of the logits (B, C), of either side, enters Hinton's KD."""
        return logits

    def after_step(self) -> None:
        """Called after each optimiser step of the main stage, without gradient (CRD's banks)."""

    def forward(self, student: Features, teacher: Features | None, batch: Batch) -> tuple[Tensor, LossTerms]:
        """The weighted total (0-d), and all terms by name: "ce", "kd" and the method's own."""
        logits = student.logits[:: batch.views]
        losses = {"ce": F.cross_entropy(logits, batch.labels)}
        weights: dict[str, float | Tensor] = {"ce": self.settings.ce_weight}
        logged: dict[str, Tensor] = {}
        if teacher is not None:
            if self.settings.kd_weight > 0:
                ours, theirs = self.softened(logits), self.softened(teacher.logits[:: batch.views])
                temperature, kind = self.settings.kd_temperature, self.settings.divergence
                losses["kd"] = softened_divergence(ours, theirs, temperature, kind=kind)
                weights["kd"] = self.settings.kd_weight
            own = self.loss_terms(student, teacher, batch)
            losses |= own.losses
            rise = self.ramp if self.settings.warmup_epochs > 0 else 1.0
            weights |= {name: self.loss_weights[name] * rise for name in own.losses}
            logged |= own.logged
        total = torch.stack([weights[name] * loss for name, loss in losses.items()]).sum()
        return total, LossTerms(losses, logged)


def check_pair(settings: MethodSettings, student: FeatureShapes, teacher: FeatureShapes) -> None:
    """UserError where one of the networks lacks what the method needs, or the two cannot be used with it together."""
    kind = METHODS[settings.name]
    for shapes in (student, teacher):
        lacks = ""
        if {"taps", "preactivations"} & kind.needs and not shapes.maps:
            lacks = "feature maps"
        elif "preactivations" in kind.needs and not shapes.preactivations:
            lacks = "maps before their ReLU beside those after it"
        if lacks:
            raise UserError(
                f"method '{settings.name}' needs {lacks}, and {shapes.network} gives none: "
                + (
                    f"its modules that do are named in network_settings.{shapes.network}.taps"
                    if lacks == "feature maps"
                    else "only a network of this suite, or derived from sskd.networks.Network, has them"
                )
            )
    kind.check(settings, student, teacher)


METHODS: Registry[type[Method]] = Registry("method", "sskd.methods")
