"""The task of a teacher: a network is trained on labels, or given weights are evaluated."""

from functools import partial
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from sskd.config.pretrained import FromFile
from sskd.data.batch import Batch
from sskd.data.views import SingleView
from sskd.distillation.forward import global_batch, global_features, training_pass
from sskd.errors import UserError
from sskd.methods import LossTerms
from sskd.networks import Network, build_network
from sskd.networks.weights import check_weights, load_into, load_network
from sskd.optim import learning_rate_at
from sskd.runs.run_folder import RunFolder
from sskd.runs.spec import FromRun, RunSpec, TeacherSpec
from sskd.runs.trained import describe_network, statistics
from sskd.runtime.seeding import stream_seed
from sskd.training.setup import Setup
from sskd.training.tasks.stage import Stage, TrainingTask


class TeacherTask(TrainingTask):
    """Trains a network with cross-entropy on the labels. A network with given weights is only evaluated."""

    def __init__(self, setup: Setup, spec: TeacherSpec) -> None:
        self.setup = setup
        if spec.teacher is not None:
            self.network = self.output = load_teacher(setup, spec.teacher)
            self.modules, self.stages = nn.ModuleDict(), []
            return
        self.network = self.output = new_network(setup)
        self.modules = self.with_average("network", self.network)
        self.description = describe_network(spec, setup.data)
        lr_at = partial(learning_rate_at, spec.recipe)
        views = SingleView()
        self.stages = [Stage("main", spec.recipe.epochs, lr_at, [self.network], views, self.loss, eager=setup.eager)]
        self._forward = training_pass(self.network, setup.passes)

    def loss(self, batch: Batch) -> tuple[Tensor, LossTerms]:
        """Returns the cross-entropy, and its terms."""
        rank, batch = self.setup.rank, self.setup.mixed(batch)
        features = global_features(self._forward, batch, frozenset(), rank)
        smoothing = self.setup.spec.recipe.label_smoothing
        ce = F.cross_entropy(features.logits, global_batch(batch, rank).targets, label_smoothing=smoothing)
        return ce, LossTerms({"ce": ce})


def new_network(setup: Setup) -> Network:
    """Returns the spec's network before training: the same weights for all runs with the same seed."""
    spec, classes = setup.spec, setup.data.num_classes
    torch.manual_seed(stream_seed(spec.random_seed, "network"))
    network = build_network(spec.network, classes, spec.used_as, statistics(setup.data))
    if isinstance(spec, TeacherSpec) and spec.start is not None:
        check_weights(spec.start)
        load_into(network, spec.start.weights, spec.network, classes, spec.start.which, new_classifier=True)
    return setup.to_device(network)


def load_teacher(setup: Setup, teacher: FromRun | FromFile) -> Network:
    """Returns the teacher in eval mode and without gradients. Raises UserError if its file is missing, damaged or of
    another kind."""
    weights: str | Path
    if isinstance(teacher, FromRun):
        weights, which = weights_of(setup, teacher.run, teacher.epoch), None
    else:
        check_weights(teacher)
        weights, which = teacher.weights, teacher.which
    classes, used_as, images = setup.data.num_classes, teacher.network_settings, statistics(setup.data)
    network = load_network(weights, teacher.network, classes, used_as, which, images=images)
    return setup.to_device(network).eval().requires_grad_(False)


def weights_of(setup: Setup, spec: RunSpec, epoch: str) -> Path:
    """Returns the weights file of a finished run. Raises UserError if there is none."""
    path = RunFolder(setup.runs, spec).weights(epoch)
    if not path.exists():
        raise UserError(f"{setup.spec.id} needs the weights of {spec.id}, but there is no {path}: train that run first")
    return path
