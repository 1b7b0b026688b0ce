"""The base of all methods: settings, modules of its own, perhaps an initial stage, and named loss terms."""

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
from sskd.networks import Features, FeatureShapes, Network
from sskd.registry import Registry
from sskd.runtime.device import constant

if TYPE_CHECKING:
    from sskd.pretext import Pretext


FEATURE_NAMES = frozenset({"logits", "pooled", "feature_maps", "preactivations", "pre_pool", "labels", "indices"})
Family = Literal["logits", "feature maps", "relations", "contrast", "self-supervision", "control", "other"]
RESERVED = ("ce", "kd")  # the terms that every method has


class MethodInfo(NamedTuple):
    """A row of the table of methods."""

    title: str  # as in the paper's tables: "FitNet"
    paper: str  # "Romero et al., ICLR 2015, FitNets: Hints for Thin Deep Nets"
    year: int
    transfers: str  # what goes from teacher to student, in a few words
    family: Family = "other"
    url: str = ""  # of the paper
    code: str = ""  # URL of the authors' repository
    formula: str = ""  # the method's own terms with their weights, in LaTeX; the symbols are those of docs/methods.md
    where: str = ""  # what the formula's symbols mean, in Markdown with LaTeX between dollar signs
    differs: str = ""  # where the paper and its published code differ, and where this suite differs from both


@dataclass(frozen=True)
class MethodContext:
    """What a method is built from. ``teacher`` and its shapes are None where no teacher is loaded; ``head`` is None
    unless the method has ``needs_head``."""

    student: Network
    student_shapes: FeatureShapes
    num_classes: int
    labels: Tensor  # (N,) int64: the split's training labels, in the order of Batch.indices
    teacher: Network | None = None
    teacher_shapes: FeatureShapes | None = None
    head: "Pretext | None" = None  # the teacher's trained head, frozen
    recipe: Recipe = field(default_factory=Recipe)  # of the main training

    def teacher_side(self) -> tuple[Network, FeatureShapes]:
        """The teacher and its shapes, for methods with ``needs_teacher``, which always have one."""
        assert self.teacher is not None
        assert self.teacher_shapes is not None
        return self.teacher, self.teacher_shapes


class LossTerms(NamedTuple):
    """Named, unweighted loss terms (0-d, with gradient) and what is only logged (0-d, without)."""

    losses: dict[str, Tensor]
    logged: Mapping[str, Tensor] = {}


@dataclass(frozen=True)
class InitialStage:
    """Epochs before the main training.

    ``loss`` gets the student's features (None if ``uses_student`` is False), the teacher's and the batch, and returns
    0-d terms, which are summed as they are. Only the modules in ``trained`` are in train mode and are optimised, at a
    constant learning rate: the recipe's, unless the stage has its own.
    """

    name: str
    epochs: int
    trained: Sequence[nn.Module]
    loss: Callable[[Features | None, Features, Batch], dict[str, Tensor]]
    learning_rate: float | None = None  # None: the recipe's
    uses_student: bool = True


class Method(nn.Module):
    """Base of every method. Its parameters are trained with the student's, and its state is saved and resumed with it.

    The student's objective is ce_weight * CE + kd_weight * KL(kd_temperature) + the sum of loss_weights[name] *
    loss_terms[name]. CE and KL are over the images' normal views. In the first ``warmup_epochs`` the weights of the
    method's own terms rise linearly from 0.

    A subclass sets ``info``, ``required_features`` and ``term_weights`` and overrides ``loss_terms``. The features and
    the batch that ``loss_terms`` gets may lack whatever ``required_features`` does not name.
    """

    Settings: ClassVar[type[MethodSettings]] = MethodSettings
    info: ClassVar[MethodInfo]
    # names of FEATURE_NAMES: fields of the teacher's and student's Features; "indices" and "labels" of the batch if the
    # method's own terms use them
    required_features: ClassVar[frozenset[str]] = frozenset()
    # the method's own terms, each with its weight: the name of a setting, or a number
    term_weights: ClassVar[Mapping[str, str | float]] = {}
    paper_names: ClassVar[Mapping[str, str]] = {}  # what the paper calls a setting, where it is a Greek letter
    needs_teacher: ClassVar[bool] = True
    needs_head: ClassVar[bool] = False
    head_task: ClassVar[str | None] = None  # the only pretext task whose head will do; None: any
    # the training images whose features of the teacher's study() gets: "plain", in their order and as test images are
    # cropped; "augmented", as they are in training; "": study() is not called
    studies: ClassVar[Literal["", "plain", "augmented"]] = ""
    views_per_image: ClassVar[int] = 1  # that view_transform() makes, for the cost of a plan
    draws_on_host: ClassVar[bool] = False  # whether its steps differ by what the host draws: no CUDA graph holds them
    stage_names: ClassVar[tuple[str, ...]] = ("main",)  # for the table; initial stages come first
    seed_shift: ClassVar[int] = 0  # added to the run's seed: a control that is another method with other seeds
    # what tuning varies, by setting: {"weight": {"log": [0.1, 10]}}; of the suite's methods configs/spaces.yaml has it
    space: ClassVar[Mapping[str, Mapping[str, Sequence[float]]]] = {}

    first_epoch: ClassVar[int] = 1  # what the first epoch counts as where weights change with the epoch
    ramp: Tensor
    _smoothing: float = 0.0  # of labels, in cross-entropy: the recipe's

    def __init__(self, settings: Any, context: MethodContext) -> None:
        super().__init__()
        self.settings = settings
        # the teacher and its head; in a tuple, so that they are no submodules
        self._frozen = tuple(module for module in (context.teacher, context.head) if module is not None)
        self._full_epochs, self._smoothing = context.recipe.full_epochs, context.recipe.label_smoothing
        self.set_epochs(context.recipe.epochs)
        # what the weight of each term is multiplied by, by the epoch; on the device, so that a step that was captured
        # once sees its value
        self.register_buffer("ramp", torch.ones(()), persistent=False)

    def train(self, mode: bool = True) -> "Method":
        """As of any module; but the teacher, its head, and every submodule none of whose parameters is trained stay in
        eval mode, also where a subclass keeps them as attributes."""
        super().train(mode)
        for module in (*self._frozen, *self.modules()):
            trained = [parameter.requires_grad for parameter in module.parameters()]
            if module in self._frozen or (module is not self and trained and not any(trained)):
                module.eval()
        return self

    def state_dict(self, *args: Any, **kwargs: Any) -> Any:
        """As of any module, without what belongs to the teacher or its head: their own runs have saved that."""
        state, prefix = super().state_dict(*args, **kwargs), kwargs.get("prefix", "")
        for name in self._not_its_own():
            state.pop(prefix + name, None)
        return state

    def _load_from_state_dict(self, state_dict: dict[str, Any], prefix: str, *rest: Any) -> None:
        for name, tensor in self._not_its_own().items():
            state_dict.setdefault(prefix + name, tensor)
        super()._load_from_state_dict(state_dict, prefix, *rest)

    def _not_its_own(self) -> dict[str, Tensor]:
        """The teacher's and its head's tensors among those of the submodules, by their names here."""
        theirs = {id(tensor) for module in self._frozen for tensor in module.state_dict(keep_vars=True).values()}
        return {name: t for name, t in super().state_dict(keep_vars=True).items() if id(t) in theirs}

    @classmethod
    def check(cls, settings: Any, student: FeatureShapes, teacher: FeatureShapes) -> None:
        """Called before anything is trained. Raises UserError, naming networks and taps, where the method cannot
        be used with this pair."""

    @classmethod
    def check_recipe(cls, settings: Any, recipe: Recipe) -> None:
        """Called before anything is trained. Raises UserError where the method cannot be used with this recipe."""

    def view_transform(self) -> ViewTransform:
        """The views of each image that the student is trained on."""
        return SingleView()

    def predictor(self, student: Network) -> Network:
        """The network that is trained, measured and saved: the student, or what this method builds around it. Called
        once, before anything is trained; the features that ``loss_terms`` gets are this network's."""
        return student

    def study(self, seen: Iterable[tuple[Features, Tensor]]) -> None:
        """Called without gradient before the main stage, where ``studies`` says of which images: gets the teacher's
        features of every training image once, and the labels (B,), batch by batch. What it finds it keeps in buffers,
        which are saved with the run."""

    def initial_stages(self) -> list[InitialStage]:
        """What is trained before the main stage, in this order; most methods have none."""
        return []

    @property
    def loss_weights(self) -> dict[str, float]:
        """The weight of each of the method's own terms, by the term's name, as ``term_weights`` has it. A method whose
        weights are computed overrides it."""
        weights = self.term_weights.items()
        return {term: getattr(self.settings, of) if isinstance(of, str) else of for term, of in weights}

    def loss_terms(self, student: Features, teacher: Features, batch: Batch) -> LossTerms:
        """The method's own terms, unweighted, each 0-d float32.

        Features are float32, whatever the precision of the networks, with V * B rows in the order of the batch's images
        (``Batch``); the teacher's carry no gradient.
        """
        return LossTerms({})

    def begin_epoch(self, epoch: int) -> None:
        """Called before each epoch (from 0) of the main stage, and when one is resumed: for what changes over time.
        Epochs are counted as of the recipe's full schedule, as its milestones are: all scale together."""
        if self._scheduled:
            factors = [self.schedule(term, self.epochs_at(epoch)) for term in (*RESERVED, *self.loss_weights)]
            if self.ramp.dim() == 0:
                self.ramp = self.ramp.expand(len(factors)).clone()
            self.ramp.copy_(torch.tensor(factors, dtype=self.ramp.dtype))

    def schedule(self, term: str, epoch: float) -> float:
        """Returns what the weight of a term ("ce", "kd" or one of the method's own) is multiplied by in ``epoch`` as
        the published code counts them: own terms rise in the warm-up. A method whose weights change otherwise overrides
        it."""
        warmup = self.settings.warmup_epochs
        return 1.0 if term in RESERVED or not warmup else min(epoch / warmup, 1.0)

    @property
    def _scheduled(self) -> bool:
        return self.settings.warmup_epochs > 0 or type(self).schedule is not Method.schedule

    def set_epochs(self, epochs: int) -> None:
        """Notes how many epochs the main stage has: the recipe's, unless a loop of one's own has others."""
        self._stretch = self._full_epochs / epochs

    def epochs_at(self, epoch: int) -> float:
        """The published code's number of ``epoch`` (from 0): epochs of a shortened run count for more than one."""
        return (epoch + self.first_epoch) * self._stretch

    def cross_entropy(self, logits: Tensor, batch: Batch) -> Tensor:
        """Returns the mean cross-entropy of logits (B, C) with the batch's labels, or its mixed labels, smoothed as the
        recipe says; 0-d."""
        return F.cross_entropy(logits, batch.targets, label_smoothing=self._smoothing)

    def transform_logits(self, logits: Tensor) -> Tensor:
        """The logits (B, C) of either side as they enter Hinton's KD: a method may change them first."""
        return logits

    def optimizer(self, parameters: Sequence[nn.Parameter], recipe: Recipe) -> torch.optim.Optimizer | None:
        """Returns the optimiser of the main stage, where the method has one of its own; None: the recipe's."""
        return None

    def after_step(self) -> None:
        """Called after each optimiser step of the main stage, without gradient; CRD updates its memory banks here."""

    def forward(self, student: Features, teacher: Features | None, batch: Batch) -> tuple[Tensor, LossTerms]:
        """The weighted total (0-d, with gradient), and all unweighted terms by name: "ce", "kd" and the method's own.
        Without a teacher only "ce"."""
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
            if not own.losses.keys().isdisjoint(RESERVED):
                raise UserError(
                    f"the method '{self.settings.name}' gives a term one of the names {', '.join(RESERVED)}"
                )
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
