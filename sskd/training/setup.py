"""The setup that runs of all roles share: spec, data, device, precision, and how networks compute."""

from pathlib import Path
from typing import NamedTuple, TypeVar

import torch
from torch import nn

from sskd.config.execution import Execution
from sskd.data.augmentations import AUGMENTATIONS
from sskd.data.batch import Batch, LoaderConfig
from sskd.data.datasets.registry import Data, Loader, load_dataset
from sskd.data.memory_loader import SamplingConfig
from sskd.data.mixing import mixed, mixes
from sskd.data.splits import Split, make_split
from sskd.data.views import ViewTransform
from sskd.distillation.forward import Passes
from sskd.runs.spec import RunSpec
from sskd.runtime.device import configure, device_of, resolve_precision
from sskd.runtime.distributed import Rank, this_rank
from sskd.training.evaluation import EvaluationSet

ModuleT = TypeVar("ModuleT", bound=nn.Module)


class Setup(NamedTuple):
    """The setup that runs of all roles share: spec, data, device and precision."""

    spec: RunSpec
    runs: Path
    execution: Execution
    device: torch.device
    precision: str
    data: Data
    split: Split
    rank: Rank = Rank()

    @property
    def loader_config(self) -> LoaderConfig:
        """Device, memory layout and workers of the batches."""
        return LoaderConfig(self.device, self.execution.channels_last, self.rank, self.execution.workers)

    @property
    def test(self) -> EvaluationSet:
        """The test images, with this run's device and precision."""
        execution = self.execution
        return EvaluationSet(self.data, self.device, self.precision, execution.channels_last, workers=execution.workers)

    @property
    def validation(self) -> EvaluationSet | None:
        """The validation set; None if the split has none."""
        return self.test._replace(subset=self.split.validation) if self.split.validation else None

    def loader(self, view_transform: ViewTransform, stage: str) -> Loader:
        """Returns a loader of the run's training images with these views; ``stage`` names its random stream."""
        recipe = self.spec.recipe
        augmentation = AUGMENTATIONS[recipe.augmentation](recipe)
        sampling = SamplingConfig(recipe.batch_size, view_transform, augmentation, self.spec.random_seed, stage)
        return self.data.train_loader(self.split, sampling, self.loader_config)

    def mixed(self, batch: Batch) -> Batch:
        """Returns a batch of single views with its images mixed, if the recipe mixes images."""
        return mixed(batch, self.spec.recipe, self.data.num_classes)

    @property
    def eager(self) -> str:
        """Reason why the steps that train a network cannot be captured as a CUDA graph; "" if they can."""
        return "the host draws how its images are mixed" if mixes(self.spec.recipe) else ""

    @property
    def gathers(self) -> bool:
        """True if the rows of a batch are distributed over several processes."""
        return self.rank.world_size > 1

    @property
    def passes(self) -> Passes:
        """Settings of the networks' forward passes."""
        execution = self.execution
        return Passes(self.precision, execution.fold_teacher, execution.compile, execution.channels_last)

    def to_device(self, network: ModuleT) -> ModuleT:
        """Moves the network to the device, in the memory layout of the images."""
        return network.to(self.device).to(memory_format=self.passes.layout)


def prepare(spec: RunSpec, runs: Path, execution: Execution) -> Setup:
    """Loads the data and resolves device and precision."""
    device = device_of(execution)
    configure(device, execution)
    data = load_dataset(spec.dataset, Path(execution.dataset_root))
    split = make_split(data.train_labels, data.num_classes, spec.split)
    precision = resolve_precision(spec.recipe.precision, device)
    return Setup(spec, runs, execution, device, precision, data, split, this_rank())
