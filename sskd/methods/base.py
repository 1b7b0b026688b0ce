"""Base class of all methods, its context, and the registry of their names."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, ClassVar, Literal, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from sskd.config.recipe import Recipe
from sskd.config.settings import MethodSettings
from sskd.data.batch import Batch
from sskd.data.views import SingleView, ViewTransform
from sskd.errors import UserError
from sskd.losses import kd_divergence
from sskd.methods.feature_maps import check_pre_pool
from sskd.networks import Features, FeatureShapes, Network
from sskd.registry import Registry
from sskd.runtime.device import constant

if TYPE_CHECKING:
    from sskd.pretext import Pretext


FEATURE_NAMES = frozenset({"logits", "pooled", "feature_maps", "preactivations", "pre_pool", "labels", "indices"})
Family = Literal["logits", "feature maps", "relations", "contrast", "self-supervision", "control", "other"]
RESERVED = ("ce", "kd")  # terms of every method


class MethodInfo(NamedTuple):
    """Description of a method, for tables and docs/methods.md."""

    title: str  # as in the paper's tables: "FitNet"
    paper: str  # "Romero et al., ICLR 2015, FitNets: Hints for Thin Deep Nets"
    year: int
    transfers: str  # knowledge that is transferred, in a few words
    family: Family = "other"
    url: str = ""  # of the paper
    code: str = ""  # URL of the authors' repository
    formula: str = ""  # the method's own terms with their weights, in LaTeX; the symbols are those of docs/methods.md
    where: str = ""  # what the formula's symbols mean, in Markdown with LaTeX between dollar signs
    differs: str = ""  # where the paper and its published code differ, and where this suite differs from both


@dataclass(frozen=True)
class MethodContext:
    """Arguments of a method. ``teacher`` and its shapes are None if no teacher is loaded; ``head`` is None unless the
    method has ``needs_head``."""

    student: Network
    student_shapes: FeatureShapes
    num_classes: int
    labels: Tensor  # (N,) int64: training labels of the split; Batch.indices refer to them
    teacher: Network | None = None
    teacher_shapes: FeatureShapes | None = None
    head: "Pretext | None" = None  # the teacher's trained head, frozen
    recipe: Recipe = field(default_factory=Recipe)  # of the main training

    def teacher_side(self) -> tuple[Network, FeatureShapes]:
        """Returns the teacher and its shapes. Only for methods with ``needs_teacher``."""
        assert self.teacher is not None
        assert self.teacher_shapes is not None
        return self.teacher, self.teacher_shapes


class LossTerms(NamedTuple):
    """Named, unweighted loss terms (0-d, with gradient) and values that are only logged (0-d, without gradient)."""

    losses: dict[str, Tensor]
    logged: Mapping[str, Tensor] = {}


@dataclass(frozen=True)
class InitialStage:
    """Epochs before the main training.

    ``loss`` gets the student's features (None if ``uses_student`` is False), the teacher's features and the batch. It
    returns 0-d terms, whose sum is minimised. Only the modules in ``trained`` are in train mode and are optimised. The
    learning rate is constant.
    """

    name: str
    epochs: int
    trained: Sequence[nn.Module]
    loss: Callable[[Features | None, Features, Batch], dict[str, Tensor]]
    learning_rate: float | None = None  # None: the recipe's
    uses_student: bool = True


class Method(nn.Module):
    """Base class of all methods. Its parameters are trained, saved and resumed together with the student's.

    The loss is ce_weight * CE + kd_weight * KL(kd_temperature) + the sum of loss_weights[name] * loss_terms[name]. CE
    and KL use the normal view of each image. In the first ``warmup_epochs`` of the method's settings, the weights of
    its own terms rise linearly from 0.

    A subclass sets ``info``, ``required_features`` and ``term_weights`` and overrides ``loss_terms``. The features and
    the batch that ``loss_terms`` gets may lack whatever ``required_features`` does not name.
    """

    Settings: ClassVar[type[MethodSettings]] = MethodSettings
    info: ClassVar[MethodInfo]
    # names of FEATURE_NAMES: fields of the teacher's and student's Features; "indices" and "labels" of the batch if the
    # method's own terms use them
    required_features: ClassVar[frozenset[str]] = frozenset()
    # the method's own terms and their weights: the name of a setting, or a number
    term_weights: ClassVar[Mapping[str, str | float]] = {}
    paper_names: ClassVar[Mapping[str, str]] = {}  # Greek letters of the paper, and the settings that they mean
    needs_teacher: ClassVar[bool] = True
    needs_head: ClassVar[bool] = False
    head_task: ClassVar[str | None] = None  # name of the only supported pretext task; None: any
    # training images for study(): "plain" (in their order, without augmentation) or "augmented"; "": it is not called
    studies: ClassVar[Literal["", "plain", "augmented"]] = ""
    views_per_image: ClassVar[int] = 1  # views of view_transform(), for the estimated cost of a plan
    draws_on_host: ClassVar[bool] = False  # True if steps draw random numbers on the host: no CUDA graph
    stage_names: ClassVar[tuple[str, ...]] = ("main",)  # in order; the initial stages come first
    seed_shift: ClassVar[int] = 0  # added to the run's seed, for a control that differs only in its seeds
    # search space of `tune`: {"weight": {"log": [0.1, 10]}}; built-in methods have theirs in configs/spaces.yaml
    space: ClassVar[Mapping[str, Mapping[str, Sequence[float]]]] = {}

    first_epoch: ClassVar[int] = 1  # number of the first epoch for schedule()
    ramp: Tensor

    def __init__(self, settings: Any, context: MethodContext) -> None:
        super().__init__()
        self.settings = settings
        # in a tuple, so that the teacher and its head are not submodules
        self._frozen = tuple(module for module in (context.teacher, context.head) if module is not None)
        self._full_epochs, self._smoothing = context.recipe.full_epochs, context.recipe.label_smoothing
        self.set_epochs(context.recipe.epochs)
        # factor of each term's weight in the current epoch; a device tensor, so that a CUDA graph reads its new values
        self.register_buffer("ramp", torch.ones(()), persistent=False)

    def train(self, mode: bool = True) -> "Method":
        """Sets the mode as nn.Module does, but the teacher, its head and submodules without trainable parameters stay
        in eval mode."""
        super().train(mode)
        for module in (*self._frozen, *self.modules()):
            trained = [parameter.requires_grad for parameter in module.parameters()]
            if module in self._frozen or (module is not self and trained and not any(trained)):
                module.eval()
        return self

    @classmethod
    def check(cls, settings: Any, student: FeatureShapes, teacher: FeatureShapes) -> None:
        """Checks a pair of networks before training. Raises UserError, with the networks and maps, if the method does
        not support the pair. By default both must give the map before their pooling if ``required_features`` names
        it."""
        if "pre_pool" in cls.required_features:
            check_pre_pool(settings.name, student, teacher)

    @classmethod
    def check_recipe(cls, settings: Any, recipe: Recipe) -> None:
        """Checks the recipe before training. Raises UserError if the method does not support it."""

    def view_transform(self) -> ViewTransform:
        """Returns the transform that makes the views of each image."""
        return SingleView()

    def predictor(self, student: Network) -> Network:
        """Returns the network that is trained, evaluated and saved: the student, or a network around it. Called once,
        before training. ``loss_terms`` gets the features of this network."""
        return student

    def study(self, seen: Iterable[tuple[Features, Tensor]]) -> None:
        """Computes statistics of the teacher before the main stage, if ``studies`` is set. ``seen`` yields, per batch,
        the teacher's features and the labels (B,); each training image occurs once. Store results in buffers: they are
        saved with the run."""

    def initial_stages(self) -> list[InitialStage]:
        """Returns the stages before the main stage, in order; most methods have none."""
        return []

    @property
    def loss_weights(self) -> dict[str, float]:
        """Weights of the method's own terms by name, from ``term_weights``. Override it if weights are computed."""
        weights = self.term_weights.items()
        return {term: getattr(self.settings, of) if isinstance(of, str) else of for term, of in weights}

    def loss_terms(self, student: Features, teacher: Features, batch: Batch) -> LossTerms:
        """Returns the method's own terms, unweighted, each 0-d float32.

        student, teacher: float32 features with V * B rows, in the order of ``batch.images``; the teacher's have no
        gradient.
        """
        return LossTerms({})

    def begin_epoch(self, epoch: int) -> None:
        """Updates whatever changes with the epoch (from 0). Called before each epoch of the main stage, and when an
        epoch is resumed."""
        if self._scheduled:
            factors = [self.schedule(term, self.epochs_at(epoch)) for term in (*RESERVED, *self.loss_weights)]
            if self.ramp.dim() == 0:
                self.ramp = self.ramp.expand(len(factors)).clone()
            self.ramp.copy_(torch.tensor(factors, dtype=self.ramp.dtype))

    def schedule(self, term: str, epoch: float) -> float:
        """Returns the factor of a term's weight ("ce", "kd" or an own term) in ``epoch``, in epochs of the full
        schedule (``epochs_at``). By default own terms rise linearly over the settings' ``warmup_epochs``."""
        warmup = self.settings.warmup_epochs
        return 1.0 if term in RESERVED or not warmup else min(epoch / warmup, 1.0)

    @property
    def _scheduled(self) -> bool:
        return self.settings.warmup_epochs > 0 or type(self).schedule is not Method.schedule

    def set_epochs(self, epochs: int) -> None:
        """Sets the number of epochs of the main stage; by default it is the recipe's."""
        self._stretch = self._full_epochs / epochs

    def epochs_at(self, epoch: int) -> float:
        """Converts ``epoch`` (from 0) to epochs of the full schedule: (epoch + first_epoch) * full_epochs / epochs."""
        return (epoch + self.first_epoch) * self._stretch

    def cross_entropy(self, logits: Tensor, batch: Batch) -> Tensor:
        """Returns the mean cross-entropy of logits (B, C) with the batch's labels or mixed labels, with the recipe's
        label smoothing; 0-d."""
        return F.cross_entropy(logits, batch.targets, label_smoothing=self._smoothing)

    def transform_logits(self, logits: Tensor) -> Tensor:
        """Transforms the logits (B, C) of student and teacher before the term "kd"; by default the identity."""
        return logits

    def optimizer(self, parameters: Sequence[nn.Parameter], recipe: Recipe) -> torch.optim.Optimizer | None:
        """Returns the method's own optimiser of the main stage, or None for the recipe's."""
        return None

    def after_step(self) -> None:
        """Runs after each optimiser step of the main stage, without gradient; CRD updates its memory banks here."""

    def forward(self, student: Features, teacher: Features | None, batch: Batch) -> tuple[Tensor, LossTerms]:
        """Returns the weighted sum (0-d, with gradient) and all unweighted terms: "ce", "kd" and the method's own.
        Without a teacher there is only "ce"."""
        logits = student.logits[:: batch.views_per_image]
        losses = {"ce": self.cross_entropy(logits, batch)}
        weights = {"ce": self.settings.ce_weight}
        logged: dict[str, Tensor] = {}
        if teacher is not None:
            if self.settings.kd_weight > 0:
                normal = teacher.logits[:: batch.views_per_image]
                student_logits, teacher_logits = self.transform_logits(logits), self.transform_logits(normal)
                temperature, kind = self.settings.kd_temperature, self.settings.divergence
                losses["kd"] = kd_divergence(student_logits, teacher_logits, temperature, kind=kind)
                weights["kd"] = self.settings.kd_weight
            own = self.loss_terms(student, teacher, batch)
            for name in RESERVED:
                if name in own.losses:
                    raise UserError(f"method '{self.settings.name}' has a term '{name}', a reserved name: rename it")
            losses |= own.losses
            weights |= {name: self.loss_weights[name] for name in own.losses}
            logged |= own.logged
        terms = torch.stack(list(losses.values()))
        factors = constant(tuple(weights[name] for name in losses), terms.dtype, terms.device)
        if self._scheduled and self.ramp.dim() > 0:
            names = (*RESERVED, *self.loss_weights)
            places = constant(tuple(names.index(name) for name in losses), torch.int64, terms.device)
            factors = factors * self.ramp.index_select(0, places)
        return (terms * factors).sum(), LossTerms(losses, logged)


METHODS: Registry[type[Method]] = Registry("method", "sskd.methods")
