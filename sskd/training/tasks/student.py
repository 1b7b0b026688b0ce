"""The task of a student: a network is trained with a method, usually with a frozen teacher."""

from collections.abc import Iterator
from functools import partial

import torch
from torch import Tensor

from sskd.data.batch import Batch
from sskd.data.splits import Subset
from sskd.data.views import SingleView
from sskd.distillation.distiller import Distiller
from sskd.methods import InitialStage, LossTerms, Method
from sskd.networks import Features, Network
from sskd.optim import learning_rate_at, make_optimizer
from sskd.runs.spec import StudentSpec
from sskd.runs.trained import describe_network
from sskd.runtime.distributed import Rank
from sskd.training.evaluation import agreement
from sskd.training.setup import Setup
from sskd.training.tasks.head import trained_head
from sskd.training.tasks.stage import Stage, TrainingTask
from sskd.training.tasks.teacher import load_teacher, new_network


class StudentTask(TrainingTask):
    """Trains a ``Distiller`` of the spec's student, teacher and method."""

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
        self.network = self.output = self.distiller.network
        modules = self.with_average("distiller", self.distiller)
        self.modules = self.distiller if self.average is None else modules
        self.description = describe_network(spec, setup.data)
        self.method = method = self.distiller.method
        initial = method.initial_stages() if self.teacher is not None else []
        main = Stage(
            "main",
            spec.recipe.epochs,
            partial(learning_rate_at, spec.recipe),
            [self.network, method],
            method.view_transform(),
            self._loss,
            self.distiller.after_step,
            self._begin_epoch,
            lambda parameters, of: method.optimizer(parameters, of) or make_optimizer(parameters, of),
            "its method draws on the host" if method.draws_on_host else setup.eager,
        )
        self.stages = [*map(self._initial_stage, initial), main]

    def _initial_stage(self, initial: InitialStage) -> Stage:
        """Returns an initial stage of the method, with a constant learning rate."""
        lr = initial.learning_rate or self.spec.recipe.learning_rate
        loss = partial(self.distiller.initial_loss, initial)
        return Stage(initial.name, initial.epochs, lambda progress: lr, initial.trained, SingleView(), loss)

    def _loss(self, batch: Batch) -> tuple[Tensor, LossTerms]:
        return self.distiller.loss(self.setup.mixed(batch))

    def _begin_epoch(self, epoch: int) -> None:
        if epoch == 0 and self.teacher is not None:
            study(self.method, self.teacher, self.setup)
        self.distiller.begin_epoch(epoch)

    def final(self) -> dict[str, float]:
        """Returns the student-teacher agreement."""
        return agreement(self.network, self.teacher, self.setup.test) if self.teacher is not None else {}


@torch.no_grad()
def study(method: Method, teacher: Network, setup: Setup) -> None:
    """Calls ``Method.study`` with the teacher's features of every training image, if the method requests them
    (``Method.studies``). Every process computes the features of all images. A run that is resumed in its first epoch
    gets the same features again."""
    if method.studies == "plain":
        images = setup.test._replace(subset=Subset(setup.split.indices, setup.split.labels))
        method.study(images.features(teacher))
    elif method.studies == "augmented":
        method.study(_augmented(teacher, setup))


def _augmented(teacher: Network, setup: Setup) -> Iterator[tuple[Features, Tensor]]:
    """Yields the batches of an epoch of single views, in float32."""
    for batch in setup._replace(rank=Rank()).loader(SingleView(), "study").epoch(0):
        yield teacher.features(batch.images), batch.labels
