"""A student, its teacher and a method as one module: images and labels in, the weighted loss and its terms out."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from sskd.config.recipe import Recipe
from sskd.config.settings import MethodSettings
from sskd.data.augment import Augmentation
from sskd.data.batch import Batch
from sskd.data.memory_loader import RGB
from sskd.data.views import SingleView
from sskd.distillation.adapt import as_network, own_module, shapes_of
from sskd.distillation.forward import Passes, TeacherForward, training_pass
from sskd.distillation.frozen import BesideFrozen
from sskd.distillation.gathering import whole_batch, whole_features
from sskd.distillation.given import check_given, check_taps, chosen_settings, labels_of_images, steps_before
from sskd.distillation.inputs import Inputs, statistics_of
from sskd.distillation.stages import DistillerStage
from sskd.errors import UserError
from sskd.methods import METHODS, InitialStage, LossTerms, Method, MethodContext, check_pair, check_recipe
from sskd.networks import Features, Network
from sskd.optim import make_optimizer
from sskd.pretext import Pretext
from sskd.runtime.device import autocast
from sskd.runtime.distributed import Rank, this_rank
from sskd.runtime.seeding import stream_seed


class Distiller(BesideFrozen):
    """A student that learns from a teacher by one of the suite's methods, for any training loop; the suite's own runs
    train with it too (sskd/training/tasks/student.py).

    Trained, saved and moved as one module: ``parameters()`` are the student's and the method's that are trained,
    ``state_dict()`` holds student and method. The teacher and its head are no part of either. They stay in eval mode
    and without gradient, and go along with ``to()``, ``copy.deepcopy`` and ``torch.save``.

    Args:
        student: a module whose output is logits (B, C), or a network of this suite.
        teacher: as the student; None for a method that needs none. It is put into eval mode, and its parameters need no
            gradient afterwards. Its weights are read at the first step.
        method: a name (docs/methods.md), a registered class, or settings (``sskd.settings``).
        num_classes: C.
        sample: a few images as the networks take them, (B, 3, H, W); their size is that of all later batches.
        taps: names of the student's modules whose outputs are the maps that some methods compare (``suggest_taps``).
            Not for networks of this suite, which name their own.
        teacher_taps: the teacher's; None: the same names.
        pooled: the module of the student whose output is pooled to what enters the classifier (catkd, simkd).
        teacher_pooled: the module of the teacher that corresponds to ``pooled``.
        train_labels: (N,) int64, the labels of the training images in the order of ``indices``, for crd.
        train_images: N, where ``train_labels`` are not at hand; crd then takes all other images as negatives.
        head: the teacher's head for sskd and hsakd, from ``train_head`` or ``load_head``.
        mean: mean per channel of pixels / 255. Float images are normalised with it already, uint8 images will be.
        std: standard deviation per channel of pixels / 255, used like ``mean``.
        augmentation: crops and flips that are made here, of uint8 images; None: the loader has made them.
        recipe: what a method takes from it: epochs, full_epochs, label_smoothing, for semckd batch_size. Default:
            CIFAR's.
        published: whether values that are published for the two networks fill what the settings leave open, where both
            are the suite's.
        gather: whether the loss is of the whole batch of all processes of torch.distributed, each of which gives an
            equal part: needed where a method compares images with each other. Without it each process has its own.
        seed: for the method's own weights and all that is drawn; torch's global random state is left as it is.
        passes: how the networks' forward passes are computed.

    UserError says in one sentence what is wrong with any of them.
    """

    network: Network  # the one that is trained: the student, or what the method builds around it
    method: Method

    def __init__(
        self,
        student: nn.Module,
        teacher: nn.Module | None = None,
        method: "str | MethodSettings | type[Method]" = "kd",
        *,
        num_classes: int,
        sample: Tensor,
        taps: Sequence[str] = (),
        teacher_taps: Sequence[str] | None = None,
        pooled: str = "",
        teacher_pooled: str | None = None,
        train_labels: Tensor | None = None,
        train_images: int | None = None,
        head: Pretext | None = None,
        mean: RGB | None = None,
        std: RGB | None = None,
        augmentation: Augmentation | None = None,
        recipe: Recipe | None = None,
        published: bool = True,
        gather: bool = False,
        seed: int = 0,
        passes: Passes | None = None,
    ) -> None:
        super().__init__()
        recipe, passes = recipe or Recipe(), passes or Passes()
        self.settings = chosen_settings(method, student, teacher, published)
        kind = METHODS[self.settings.name]
        check_given(self.settings, teacher is not None, head)
        check_recipe(self.settings, recipe)
        early = "preactivations" in kind.required_features
        learner = as_network(student, num_classes, taps, pooled, "student", early)
        shapes = shapes_of(learner, sample, num_classes, "student")
        check_taps(self.settings, "student", student, shapes, sample)
        device = next(learner.parameters()).device
        frozen, frozen_shapes = None, None
        if teacher is not None:
            same = not isinstance(teacher, Network)  # whose features() name its maps
            its_taps = taps if same and teacher_taps is None else teacher_taps or ()
            its_pooled = pooled if same and teacher_pooled is None else teacher_pooled or ""
            frozen = as_network(teacher, num_classes, its_taps, its_pooled, "teacher", early)
            frozen.eval().requires_grad_(False)
            frozen_shapes = shapes_of(frozen, sample, num_classes, "teacher")
            check_taps(self.settings, "teacher", teacher, frozen_shapes, sample)
            check_pair(self.settings, shapes, frozen_shapes)
        labels = labels_of_images(self.settings, train_labels, train_images)
        context = MethodContext(
            student=learner,
            student_shapes=shapes,
            num_classes=num_classes,
            labels=labels.to(device),
            teacher=frozen,
            teacher_shapes=frozen_shapes,
            head=None if head is None else head.to(device).eval().requires_grad_(False),
            recipe=recipe,
        )
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(stream_seed(seed, "method"))
            made = kind(self.settings, context).to(device)
            self.network = made.predictor(learner).to(device).to(memory_format=passes.layout)
        self.method = made
        self._frozen = (frozen, context.head)
        self._student = (student,)
        self._passes = passes
        # what has learned from the teacher in an initial stage alone needs no pass of it afterwards
        self._asks_teacher = frozen is not None and (self.settings.kd_weight > 0 or bool(made.loss_weights))
        self._kept = frozenset(made.required_features)
        self.rank = this_rank() if gather else Rank()
        self._inputs = Inputs(
            f"method '{self.settings.name}'",
            num_classes,
            sample.shape[-1],
            self._kept,
            statistics_of(mean, std),
            augmentation,
            len(labels),
        )
        self._seed, self._epoch, self._step = seed, 0, 0
        self._pending = steps_before(made, frozen is not None)

    # --- the step -------------------------------------------------------------------------------------------------

    def loss(self, batch: Batch) -> tuple[Tensor, LossTerms]:
        """Returns the weighted total (0-d, with gradient) and the unweighted terms of a batch in its views. Waits for
        no device: a CUDA graph can hold it."""
        teacher = self._teacher_features(batch) if self._asks_teacher else None
        student = self._student_features(batch)
        with autocast(batch.labels.device, "fp32"):
            return self.method(student, teacher, whole_batch(batch, self.rank))

    def initial_loss(self, stage: InitialStage, batch: Batch) -> tuple[Tensor, LossTerms]:
        """Returns the sum of the terms of one of the method's initial stages, and the terms."""
        student = self._student_features(batch) if stage.uses_student else None
        teacher = self._teacher_features(batch)
        with autocast(batch.labels.device, "fp32"):
            terms = stage.loss(student, teacher, whole_batch(batch, self.rank))
            return torch.stack(list(terms.values())).sum(), LossTerms(terms)

    def _student_features(self, batch: Batch) -> Features:
        """Of the whole batch, float32, with gradient."""
        features = self.forwards[0](batch.images).map(Tensor.float, self._kept)
        return whole_features(features, batch, self._kept, self.rank)

    def _teacher_features(self, batch: Batch) -> Features:
        """Of the whole batch, float32, without gradient."""
        ask = self.forwards[1]
        assert ask is not None
        return whole_features(ask(batch.images), batch, self._kept, self.rank)

    @property
    def forwards(self) -> tuple[Callable[[Tensor], Features], TeacherForward | None]:
        """The forward passes of student and teacher, made when they are first asked for."""
        if self._made is None:
            teacher, _ = self._frozen
            asked = None if teacher is None else TeacherForward(teacher, self._kept, self._passes)
            self._made = training_pass(self.network, self._passes), asked
        return self._made

    # --- for a loop of one's own ----------------------------------------------------------------------------------

    def forward(
        self,
        images: Tensor,
        labels: Tensor,
        indices: Tensor | None = None,
        *,
        view_labels: Tensor | None = None,
        generator: torch.Generator | None = None,
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """Returns the weighted loss (0-d, with gradient), and its terms and what is logged by name (0-d, detached).

        Args:
            images: (B, 3, H, W), uint8 or normalised floats. Methods that compare views make them here. Views that the
                loader has made are taken too: (V * B, 3, H, W), image j in the rows V * j to V * j + V - 1.
            labels: (B,) int64.
            indices: (B,) int64, the images' positions in the training set, where the method needs them (crd).
            view_labels: of views that the loader has made, which transformation each is.
            generator: for what is drawn; None: one that is seeded from ``seed``, the epoch and the step.

        Values are checked on the CPU at every step, on a GPU at the first of an epoch. UserError says what is wrong.
        """
        for reason in self._pending.values():
            raise UserError(reason)
        return self._stepped(self.method.view_transform(), self.loss, images, labels, indices, view_labels, generator)

    def load_state_dict(self, *args: Any, **kwargs: Any) -> Any:
        """As of any module. Initial stages and study count as done: what is loaded has been through them."""
        for done in ("initial_stages", "study"):
            self._pending.pop(done, None)
        return super().load_state_dict(*args, **kwargs)

    def begin_epoch(self, epoch: int, epochs: int | None = None) -> None:
        """Tells the method which epoch of how many begins, from 0: what rises or falls over the training follows."""
        if epochs is not None:
            self.method.set_epochs(epochs)
        self._epoch, self._step = epoch, 0
        self.method.begin_epoch(epoch)

    @torch.no_grad()
    def after_step(self) -> None:
        """Called after each optimiser step: a memory bank takes in what the step has seen."""
        self.method.after_step()

    def optimizer(self, recipe: Recipe) -> torch.optim.Optimizer:
        """Returns the recipe's optimiser, or the method's own (dot), over what is to be trained."""
        self._pending.pop("optimizer", None)
        parameters = list(self.parameters())
        return self.method.optimizer(parameters, recipe) or make_optimizer(parameters, recipe)

    @torch.no_grad()
    def study(self, loader: Iterable[Sequence[Tensor]]) -> None:
        """Gives the method the teacher's features of all training images, where it asks for them (kdpp, wkdf).

        loader: batches of normalised float images (B, 3, H, W) and labels (B,), each image once.
        """
        teacher, _ = self._frozen
        assert teacher is not None
        self.method.study((teacher.features(images), labels) for images, labels, *_ in loader)
        self._pending.pop("study", None)

    def initial_stages(self) -> Iterator[DistillerStage]:
        """Yields what the method trains before the main training, in its order; most methods have nothing.

        The current stage is in train mode; after the last one the distiller is.
        """
        if self._frozen[0] is not None:
            for stage in self.method.initial_stages():
                self.eval()
                for module in stage.trained:
                    module.train()
                yield DistillerStage(stage, partial(self._stepped, SingleView(), partial(self.initial_loss, stage)))
        self._pending.pop("initial_stages", None)
        self.train()

    @property
    def student(self) -> nn.Module:
        """The network to keep: the module that was given, or what the method has built around it (simkd)."""
        (given,) = self._student
        return given if own_module(self.network) is given else self.network

    def _stepped(
        self,
        view_transform: Any,
        loss: Callable[[Batch], tuple[Tensor, LossTerms]],
        images: Tensor,
        labels: Tensor,
        indices: Tensor | None,
        view_labels: Tensor | None = None,
        generator: torch.Generator | None = None,
    ) -> tuple[Tensor, dict[str, Tensor]]:
        generator = generator or self._draws(images.device)
        look = images.device.type == "cpu" or self._step == 0
        self._step += 1
        batch = self._inputs.batch(view_transform, images, labels, indices, view_labels, generator, look)
        batch = batch._replace(global_batch_size=len(labels) * self.rank.world_size)
        total, terms = loss(batch)
        if look and not torch.compiler.is_compiling() and not bool(total.isfinite()):
            bad = [name for name, value in terms.losses.items() if not bool(value.isfinite())]
            raise UserError(
                f"the loss is NaN or infinite ({', '.join(bad) or 'its sum'}): is the learning rate too high?"
            )
        return total, {name: value.detach() for name, value in (terms.losses | dict(terms.logged)).items()}

    @torch.compiler.disable
    def _draws(self, device: torch.device) -> torch.Generator:
        """What the step's random numbers come from."""
        return torch.Generator(device).manual_seed(stream_seed(self._seed, "draws", self._epoch, self._step))
