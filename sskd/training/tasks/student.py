"""The task of a student: a network is trained with a method, usually with a frozen teacher."""

from functools import partial

import torch
from torch import Tensor

from sskd.data.batch import Batch
from sskd.data.views import SingleView
from sskd.distillation.distiller import Distiller
from sskd.methods import InitialStage, LossTerms
from sskd.optim import learning_rate_at, make_optimizer
from sskd.runs.spec import StudentSpec
from sskd.runs.trained import describe_network
from sskd.training.evaluation import accuracy, agreement
from sskd.training.setup import Setup
from sskd.training.tasks.head import trained_head
from sskd.training.tasks.stage import Stage, TrainingTask
from sskd.training.tasks.study import study
from sskd.training.tasks.teacher import load_teacher, new_network, validation_accuracy


class StudentTask(TrainingTask):
    """Trains a ``Distiller`` of the spec's student, teacher and method."""

    score = "top1"

    def __init__(self, setup: Setup, spec: StudentSpec) -> None:
        self.setup, self.spec = setup, spec
        network, size = new_network(setup), setup.data.image_size
        head = trained_head(setup, spec.head) if spec.head is not None else None
        self.teacher = head.network if head is not None else None
        if self.teacher is None and spec.teacher is not None:
            self.teacher = load_teacher(setup, spec.teacher)
        self.distiller = Distiller(
            network,
            self.teacher,
            spec.method,
            num_classes=setup.data.num_classes,
            sample=torch.randn(1, 3, size, size, generator=torch.Generator().manual_seed(0)),
            train_labels=setup.split.labels,
            head=head,
            recipe=spec.recipe,
            published=False,  # the spec already has the published values
            gather=setup.gathers,
            seed=spec.random_seed,
            passes=setup.passes,
        )
        self.student = self.output = self.distiller.network
        self.average = setup.new_average(self.student)
        self.modules = self.distiller if self.average is None else self.with_average("distiller", self.distiller)
        self.description = describe_network(spec.network, setup.data, spec.used_as)
        self.method = method = self.distiller.method
        initial = method.initial_stages() if self.teacher is not None else []
        main = Stage(
            "main",
            spec.recipe.epochs,
            partial(learning_rate_at, spec.recipe),
            [self.student, method],
            method.view_transform(),
            self._loss,
            self._after_step,
            self._begin_epoch,
            lambda parameters, of: method.optimizer(parameters, of) or make_optimizer(parameters, of),
            "its method draws on the host" if method.draws_on_host else setup.eager,
        )
        self.stages = [*map(self._initial_stage, initial), main]

    def _initial_stage(self, initial: InitialStage) -> Stage:
        """Returns an initial stage of the method, with a constant learning rate."""
        lr = initial.learning_rate or self.spec.recipe.learning_rate
        loss = partial(self.distiller.initial_loss, initial)
        stage = (initial.name, initial.epochs, lambda progress: lr, initial.trained, SingleView(), loss)
        return Stage(*stage, after_step=self.update_average)

    def _loss(self, batch: Batch) -> tuple[Tensor, LossTerms]:
        return self.distiller.loss(self.setup.mixed(batch))

    def _after_step(self) -> None:
        self.distiller.after_step()
        self.update_average()

    def _begin_epoch(self, epoch: int) -> None:
        if epoch == 0 and self.teacher is not None:
            study(self.method, self.teacher, self.setup)
        self.distiller.begin_epoch(epoch)

    def evaluate(self) -> dict[str, float]:
        return self.with_averages(accuracy(self.student, self.setup.test), self.setup.test)

    def validate(self) -> dict[str, float]:
        return validation_accuracy(self.student, self.setup)

    def final(self) -> dict[str, float]:
        """Returns the student-teacher agreement."""
        return agreement(self.student, self.teacher, self.setup.test) if self.teacher is not None else {}
