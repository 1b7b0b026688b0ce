"""The task of a student: a network learns by a method, from labels and, nearly always, from a frozen teacher."""

from functools import partial

import torch
from torch import Tensor, nn

from sskd.data.batch import Batch
from sskd.data.views import SingleView
from sskd.methods import METHODS, InitialStage, LossTerms, Method, MethodContext, check_pair
from sskd.networks import Features, Network, feature_shapes
from sskd.optim import learning_rate_at, make_optimizer
from sskd.runs.spec import StudentSpec
from sskd.runs.trained import describe_network
from sskd.runtime.device import autocast
from sskd.runtime.seeding import stream_seed
from sskd.training.evaluation import accuracy, similarity
from sskd.training.forward import TeacherForward, training_pass
from sskd.training.setup import Setup
from sskd.training.tasks.head import trained_head
from sskd.training.tasks.stage import Stage, TrainingTask
from sskd.training.tasks.study import study
from sskd.training.tasks.teacher import held_out_accuracy, load_teacher, new_network


class StudentTask(TrainingTask):
    """The student and its method's modules learn; the teacher and its head are frozen."""

    score = "top1"

    def __init__(self, setup: Setup, spec: StudentSpec) -> None:
        self.setup, self.spec = setup, spec
        network = new_network(setup)
        self.teacher = load_teacher(setup, spec.teacher) if spec.teacher is not None else None
        self.method = _new_method(setup, spec, network, self.teacher)
        self.student = self.output = setup.place(self.method.predictor(network))
        self.modules = nn.ModuleDict({"network": self.student, "method": self.method})
        self.description = describe_network(spec.network, setup.data, spec.used_as)

        self._forward = training_pass(self.student, setup)
        self._teacher_forward, initial = None, []
        if self.teacher is not None:
            self._teacher_forward = TeacherForward(self.teacher, setup, self.method.needs)
            initial = [self._initial_stage(stage, self._teacher_forward) for stage in self.method.initial_stages()]
        self.stages = [*initial, self._main_stage()]
        # what has learned from the teacher in an initial stage alone needs no pass of it afterwards
        self._asks_teacher = spec.method.kd_weight > 0 or bool(self.method.loss_weights)

    def _main_stage(self) -> Stage:
        recipe, method = self.spec.recipe, self.method
        return Stage(
            "main",
            recipe.epochs,
            partial(learning_rate_at, recipe),
            [self.student, method],
            method.views(),
            self.loss,
            method.after_step,
            self._begin_epoch,
            lambda parameters, of: method.optimizer(parameters, of) or make_optimizer(parameters, of),
            "its method draws on the host" if method.draws_on_host else "",
        )

    def _initial_stage(self, initial: InitialStage, teacher: TeacherForward) -> Stage:
        """A method's stage before the main one, at a constant rate."""
        rate = initial.learning_rate or self.spec.recipe.learning_rate
        loss = partial(self.initial_loss, initial, teacher)
        return Stage(initial.name, initial.epochs, lambda progress: rate, initial.trained, SingleView(), loss)

    def _begin_epoch(self, epoch: int) -> None:
        if epoch == 0 and self.teacher is not None:
            study(self.method, self.teacher, self.setup)
        self.method.begin_epoch(epoch)

    def loss(self, batch: Batch) -> tuple[Tensor, LossTerms]:
        """The method's: of the teacher's features, the student's, and the batch."""
        ask = self._teacher_forward if self._asks_teacher else None
        teacher = self._gather(ask(batch.images), batch) if ask is not None else None
        return self.method(self._student_features(batch), teacher, self.setup.gather_batch(batch))

    def initial_loss(self, initial: InitialStage, teacher: TeacherForward, batch: Batch) -> tuple[Tensor, LossTerms]:
        """The unweighted sum of an initial stage's terms."""
        student = self._student_features(batch) if initial.uses_student else None
        teacher_features = self._gather(teacher(batch.images), batch)
        terms = initial.loss(student, teacher_features, self.setup.gather_batch(batch))
        return torch.stack(list(terms.values())).sum(), LossTerms(terms)

    def _student_features(self, batch: Batch) -> Features:
        """Of the whole batch, float32, with gradient."""
        with autocast(self.setup.device, self.setup.precision):
            features = self._forward(batch.images)
        return self._gather(features.map(Tensor.float, self.method.needs), batch)

    def _gather(self, features: Features, batch: Batch) -> Features:
        return self.setup.gather_features(features, batch, self.method.needs)

    def evaluate(self) -> dict[str, float]:
        return accuracy(self.student, self.setup.test)

    def held_out(self) -> dict[str, float]:
        return held_out_accuracy(self.student, self.setup)

    def final(self) -> dict[str, float]:
        """How like its teacher the student is."""
        return similarity(self.student, self.teacher, self.setup.test) if self.teacher is not None else {}


def _new_method(setup: Setup, spec: StudentSpec, student: Network, teacher: Network | None) -> Method:
    """The spec's method, untrained. UserError where it cannot be used with these two networks."""
    size, given = setup.data.image_size, spec.teacher
    context = MethodContext(
        student=student,
        student_shapes=feature_shapes(spec.network, size, spec.used_as),
        num_classes=setup.data.num_classes,
        labels=setup.split.labels.to(setup.device),
        teacher=teacher,
        teacher_shapes=feature_shapes(given.network, size, given.network_settings) if given is not None else None,
        head=trained_head(setup, spec.head) if spec.head is not None else None,
        recipe=spec.recipe,
    )
    kind = METHODS[spec.method.name]
    if context.teacher_shapes:
        check_pair(spec.method, context.student_shapes, context.teacher_shapes)
    torch.manual_seed(stream_seed(spec.random_seed, "method"))
    return kind(spec.method, context).to(setup.device)
