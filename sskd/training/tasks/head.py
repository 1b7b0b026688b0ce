"""The task of a head: it is trained on a self-supervised task, on the features of a frozen teacher."""

from collections.abc import Callable
from functools import partial
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn
from torch.nn import functional as F

from sskd.config.execution import Execution
from sskd.data.batch import Batch
from sskd.data.splits import make_split
from sskd.distillation.forward import TeacherForward, global_batch, global_features, training_pass
from sskd.errors import UserError
from sskd.methods import LossTerms
from sskd.networks import Features, feature_shapes
from sskd.optim import learning_rate_at
from sskd.pretext import PRETEXTS, Pretext, PretextContext
from sskd.runs.spec import HeadSpec, read_spec
from sskd.runtime.distributed import Rank
from sskd.runtime.seeding import stream_seed
from sskd.training.evaluation import accuracy
from sskd.training.setup import Setup, prepare
from sskd.training.tasks.stage import Stage, TrainingTask
from sskd.training.tasks.teacher import load_teacher, weights_of


class HeadTask(TrainingTask):
    """Trains the head, alone or together with a network. Students use its last epoch, so there is no score: no
    earlier epoch is evaluated."""

    score = ""

    def __init__(self, setup: Setup, spec: HeadSpec) -> None:
        self.setup, self.name = setup, spec.pretext.name
        self.head = self.output = new_head(setup, spec)
        self.modules = nn.ModuleDict({"head": self.head})
        self.view_transform = self.head.view_transform(spec.pretext)
        recipe = spec.recipe
        lr_at = partial(learning_rate_at, recipe)
        self.stages = [Stage("main", recipe.epochs, lr_at, [self.head], self.view_transform, self.loss)]
        self._features: Callable[[Tensor], Features]
        if self.head.network is None:
            self._features = TeacherForward(
                load_teacher(setup, spec.teacher), self.head.required_features, setup.passes
            )
        else:
            self._features = training_pass(setup.to_device(self.head.network), setup.passes)

    def loss(self, batch: Batch) -> tuple[Tensor, LossTerms]:
        """Returns the loss of the pretext task, and its terms."""
        rank = self.setup.rank
        features = global_features(self._features, batch, self.head.required_features, rank)
        return self._losses(features, global_batch(batch, rank))

    def _losses(self, features: Features, batch: Batch) -> tuple[Tensor, LossTerms]:
        """Returns the loss of the head, plus the cross-entropy of the normal views if a network is trained with the
        head."""
        value, right = self.head.loss(self.head.read(features), batch)
        losses = {self.name: value}
        if self.head.network is not None:
            losses["ce"] = F.cross_entropy(features.logits[:: batch.views_per_image], batch.labels)
        return torch.stack(list(losses.values())).sum(), LossTerms(losses, {"head_accuracy": right})

    def evaluate(self) -> dict[str, float]:
        """Returns the head's accuracy and loss on views of the test images, which are the same for every head, and top1
        of the network that is trained with it, if there is one. Returns {} for a task that cannot be evaluated on test
        images."""
        if not self.head.evaluable_on_test:
            return {}
        setup = self.setup
        config = setup.loader_config._replace(rank=Rank())  # rank 0 evaluates all rows
        loader = setup.data.test_loader(self.view_transform, setup.spec.recipe.batch_size, config)
        self.head.eval()
        sums = torch.zeros(3, device=setup.device)
        with torch.no_grad():
            for batch in loader.epoch(0):
                features = global_features(self._features, batch, self.head.required_features, Rank())
                value, right = self.head.loss(self.head.read(features), batch)
                sums += torch.stack([value, right, torch.ones_like(value)]) * len(batch.labels)
        total, rights, images = sums.tolist()
        measured = {"head_top1": 100 * rights / images, "loss": total / images}
        if self.head.network is not None:
            measured["top1"] = accuracy(self.head.network, setup.test)["top1"]
        return measured

    def validate(self) -> dict[str, float]:
        return {}


def new_head(setup: Setup, spec: HeadSpec) -> Pretext:
    """Returns an untrained head."""
    torch.manual_seed(stream_seed(spec.seed, "head"))
    width = feature_shapes(spec.network, setup.data.image_size, spec.used_as).embed_dim
    images = len(make_split(setup.data.train_labels, setup.data.num_classes, spec.split).indices)
    context = PretextContext(width, images, spec.network, setup.data.num_classes)
    return PRETEXTS[spec.pretext.name](spec.pretext, context).to(setup.device)


def trained_head(setup: Setup, spec: HeadSpec) -> Pretext:
    """Returns the head of a run in its last epoch, frozen. Raises UserError if its file is missing or damaged."""
    head, path = new_head(setup, spec), weights_of(setup, spec, "last")
    try:
        # not with networks.weights, which renames layers of published files: a task may use any names
        head.load_state_dict(load_file(path))
    except (SafetensorError, OSError) as error:
        raise UserError(f"{path} is damaged ({error}): delete its folder to rerun the run") from None
    return head.eval().requires_grad_(False)


def load_head(run_folder: str | Path, dataset_root: str | Path = "data") -> Pretext:
    """Loads the head that a run has trained, frozen and on the CPU, for ``sskd.Distiller``.

    run_folder: results/PROFILE/runs/ID. dataset_root: folder of the data set that the head was trained on; only the
    number of images is used. Raises UserError if the run is not a head's, or if its weights are missing or damaged.
    """
    folder = Path(run_folder)
    spec = read_spec(folder / "spec.yaml")
    if not isinstance(spec, HeadSpec):
        raise UserError(f"{folder} is a run of a {spec.role}, not of a head")
    return trained_head(prepare(spec, folder.parent, Execution(dataset_root=str(dataset_root), device="cpu")), spec)
