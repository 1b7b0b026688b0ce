"""Module of a student, its teacher and a method: maps images and labels to the weighted loss and its terms."""

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
from sskd.distillation.forward import Passes, TeacherForward, global_batch, global_features, training_pass
from sskd.distillation.frozen import WithFrozen
from sskd.distillation.given import check_given, check_taps, chosen_settings, labels_of_images, required_steps
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


class Distiller(WithFrozen):
    """A student that learns from a teacher by one of the suite's methods, for any training loop. The suite's own runs
    use it too (sskd/training/tasks/student.py).

    ``parameters()`` are the trainable parameters of student and method, and ``state_dict()`` is the state of both. The
    teacher and its head belong to neither: they stay frozen and in eval mode, but are moved, copied and pickled with
    the module.

    Args:
        student: a module that returns logits (B, C), or a network of this suite.
        teacher: like the student; None for a method without teacher. It is frozen and put into eval mode. Its weights
            are read at the first step.
        method: a name (docs/methods.md), a registered class, or settings (``sskd.settings``).
        num_classes: C.
        sample: a few images (B, 3, H, W) in the networks' input format; all batches must have their size.
        taps: names of the student's modules whose outputs are feature maps, for methods that compare maps
            (``suggest_taps``). Not for networks of this suite.
        teacher_taps: the same for the teacher; None: the same names.
        pooled: name of the student's module whose spatial mean is the classifier's input (for catkd, simkd).
        teacher_pooled: the same for the teacher; None: the same name.
        train_labels: (N,) int64, labels of the training images, which ``indices`` refer to (for crd).
        train_images: N, if ``train_labels`` are not available; crd then uses all other images as negatives.
        head: the teacher's head for sskd and hsakd, from ``train_head`` or ``load_head``.
        mean: mean per channel of pixels / 255. Float images must be normalised with it; uint8 images will be.
        std: standard deviation per channel of pixels / 255, used like ``mean``.
        augmentation: crops and flips, applied here to uint8 images; None: the loader applies them.
        recipe: methods use its epochs, full_epochs, label_smoothing and (semckd) batch_size. Default: CIFAR's.
        published: complete the settings with the values published for the pair, if both networks are of this suite.
        gather: compute the loss of the global batch of torch.distributed, of which each rank has an equal part. Needed
            if the method compares images with each other. False: each rank computes the loss of its own batch.
        seed: seed of the method's weights and of all random draws; torch's global random state is not changed.
        passes: execution settings of the forward passes.

    Raises UserError if an argument is wrong.
    """

    network: Network  # the trained network: the student, or the method's network around it
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
            same = not isinstance(teacher, Network)  # a Network's features() return its maps
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
        # methods that use the teacher only in an initial stage need no teacher in the main stage
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
        self._pending = required_steps(made, frozen is not None)

    # --- the step -------------------------------------------------------------------------------------------------

    def loss(self, batch: Batch) -> tuple[Tensor, LossTerms]:
        """Returns the weighted loss (0-d, with gradient) and the unweighted terms of a batch. Does not synchronise host
        and device, so it can be captured as a CUDA graph."""
        teacher = self._teacher_features(batch) if self._asks_teacher else None
        student = self._student_features(batch)
        with autocast(batch.labels.device, "fp32"):
            return self.method(student, teacher, global_batch(batch, self.rank))

    def initial_loss(self, stage: InitialStage, batch: Batch) -> tuple[Tensor, LossTerms]:
        """Returns the loss (0-d, with gradient) of an initial stage, which is the sum of its terms, and the terms."""
        student = self._student_features(batch) if stage.uses_student else None
        teacher = self._teacher_features(batch)
        with autocast(batch.labels.device, "fp32"):
            terms = stage.loss(student, teacher, global_batch(batch, self.rank))
            return torch.stack(list(terms.values())).sum(), LossTerms(terms)

    def _student_features(self, batch: Batch) -> Features:
        """Returns the student's features of the global batch, float32, with gradient."""
        return global_features(self.forwards[0], batch, self._kept, self.rank)

    def _teacher_features(self, batch: Batch) -> Features:
        """Returns the teacher's features of the global batch, float32, without gradient."""
        forward = self.forwards[1]
        assert forward is not None
        return global_features(forward, batch, self._kept, self.rank)

    @property
    def forwards(self) -> tuple[Callable[[Tensor], Features], TeacherForward | None]:
        """Forward passes of student and teacher, created at the first use."""
        if self._made is None:
            teacher, _ = self._frozen
            of_teacher = None if teacher is None else TeacherForward(teacher, self._kept, self._passes)
            self._made = training_pass(self.network, self._passes), of_teacher
        return self._made

    # --- for other training loops ---------------------------------------------------------------------------------

    def forward(
        self,
        images: Tensor,
        labels: Tensor,
        indices: Tensor | None = None,
        *,
        view_labels: Tensor | None = None,
        generator: torch.Generator | None = None,
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """Returns the weighted loss (0-d, with gradient), and its terms and logged values by name (0-d, detached).

        Args:
            images: (B, 3, H, W), uint8 or normalised floats, from which the method's views are made; or views from the
                loader (V * B, 3, H, W), with image j in the rows V * j to V * j + V - 1.
            labels: (B,) int64.
            indices: (B,) int64, indices of the images in the training set, if the method needs them (crd).
            view_labels: (V * B,) int64, transformation of each view made by the loader.
            generator: random generator; None: one seeded from ``seed``, the epoch and the step.

        Values are checked at each step on a CPU, and at the first step of an epoch on a GPU. Raises UserError for wrong
        inputs or a loss that is not finite.
        """
        for reason in self._pending.values():
            raise UserError(reason)
        return self._stepped(self.method.view_transform(), self.loss, images, labels, indices, view_labels, generator)

    def load_state_dict(self, *args: Any, **kwargs: Any) -> Any:
        """Loads a state as nn.Module does. Initial stages and study() then count as done."""
        for done in ("initial_stages", "study"):
            self._pending.pop(done, None)
        return super().load_state_dict(*args, **kwargs)

    def begin_epoch(self, epoch: int, epochs: int | None = None) -> None:
        """Starts ``epoch`` (from 0) of ``epochs``; updates weights and temperatures that depend on the epoch."""
        if epochs is not None:
            self.method.set_epochs(epochs)
        self._epoch, self._step = epoch, 0
        self.method.begin_epoch(epoch)

    @torch.no_grad()
    def after_step(self) -> None:
        """Call this after each optimiser step: it updates memory banks."""
        self.method.after_step()

    def optimizer(self, recipe: Recipe) -> torch.optim.Optimizer:
        """Returns the optimiser of the trainable parameters: the recipe's, or the method's own (dot)."""
        self._pending.pop("optimizer", None)
        parameters = list(self.parameters())
        return self.method.optimizer(parameters, recipe) or make_optimizer(parameters, recipe)

    @torch.no_grad()
    def study(self, loader: Iterable[Sequence[Tensor]]) -> None:
        """Computes the method's statistics of the teacher's features over all training images (kdpp, wkdl).

        loader: yields normalised float images (B, 3, H, W) and labels (B,), each image once.
        """
        teacher, _ = self._frozen
        assert teacher is not None
        self.method.study((teacher.features(images), labels) for images, labels, *_ in loader)
        self._pending.pop("study", None)

    def initial_stages(self) -> Iterator[DistillerStage]:
        """Yields the stages before the main training, in order; most methods have none.

        The modules of the current stage are in train mode; after the last stage the distiller is.
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
        """The trained network: the given module, or the method's network around it (simkd)."""
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
        generator, check_values = self._begin_step(images.device, generator)
        batch = self._inputs.batch(view_transform, images, labels, indices, view_labels, generator, check_values)
        batch = batch._replace(global_batch_size=len(labels) * self.rank.world_size)
        total, terms = loss(batch)
        if check_values and not torch.compiler.is_compiling() and not bool(total.isfinite()):
            bad = [name for name, value in terms.losses.items() if not bool(value.isfinite())]
            raise UserError(
                f"the loss is NaN or infinite ({', '.join(bad) or 'its sum'}): is the learning rate too high?"
            )
        return total, {name: value.detach() for name, value in (terms.losses | dict(terms.logged)).items()}

    @torch.compiler.disable  # torch.compile would compile again for each number of the step
    def _begin_step(self, device: torch.device, given: torch.Generator | None) -> tuple[torch.Generator, bool]:
        """Counts the step. Returns its random generator, and whether the values of its inputs and loss are checked."""
        first, self._step = self._step == 0, self._step + 1
        generator = given or torch.Generator(device).manual_seed(
            stream_seed(self._seed, "draws", self._epoch, self._step)
        )
        return generator, first or device.type == "cpu"
