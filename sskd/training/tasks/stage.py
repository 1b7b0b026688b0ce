"""What the training loop runs, whatever is trained: a task is modules, stages to go through, and what is measured."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import torch
from torch import Tensor, nn

from sskd.config.recipe import Recipe
from sskd.data.batch import Batch
from sskd.data.views import ViewTransform
from sskd.methods import LossTerms
from sskd.optim import make_optimizer
from sskd.training.average import Average
from sskd.training.evaluation import EvaluationSet, accuracy

MakeOptimizer = Callable[[Sequence[nn.Parameter], Recipe], torch.optim.Optimizer]
Loss = Callable[[Batch], tuple[Tensor, LossTerms]]  # of a batch: the total (0-d, with gradient), and its terms by name


@dataclass(frozen=True)
class Stage:
    """Epochs with one loss and one set of trained modules. A run has one, some methods put others before it."""

    name: str
    epochs: int
    learning_rate_at: Callable[[float], float]  # of the epochs that are done, 0.5 in the middle of the first
    trained: Sequence[nn.Module]
    view_transform: ViewTransform
    loss: Loss
    after_step: Callable[[], None] = lambda: None
    begin_epoch: Callable[[int], None] = lambda epoch: None  # with the epoch, from 0; also when one is resumed
    optimizer: MakeOptimizer = make_optimizer
    eager: str = ""  # why no CUDA graph holds its steps

    @cached_property
    def parameters(self) -> list[nn.Parameter]:
        """What the optimiser changes, each once: collected at the first call, and not at every step."""
        unique = {id(p): p for module in self.trained for p in module.parameters() if p.requires_grad}
        return list(unique.values())


class TrainingTask:
    """Everything the loop needs to know of a run. Subclasses set the attributes and say what is measured."""

    modules: nn.Module  # all that is learned: trained, saved and resumed
    output: nn.Module  # the one whose best and last weights are kept
    stages: list[Stage]  # none where there is nothing to train
    # the key of evaluate() that decides the best epoch; "": the last epoch counts, and it alone is measured
    score: str = ""
    description: dict[str, Any] | None = None  # of the network that is trained, for network.json

    average: Average | None = None  # of the output's weights, if the recipe asks for it

    def with_average(self, name: str, module: nn.Module) -> nn.ModuleDict:
        """Returns the module under its name, beside the average if there is one."""
        return nn.ModuleDict({name: module} | ({} if self.average is None else {"ema": self.average}))

    def update_average(self) -> None:
        """Called after every step of every stage."""
        if self.average is not None:
            self.average.update()

    def with_averages(self, measured: dict[str, float], test: EvaluationSet) -> dict[str, float]:
        """Returns the measured accuracies, with those of the average as ema_top1, ema_top5 and ema_loss if there is
        one."""
        if self.average is None:
            return measured
        own = accuracy(self.average.network, test)
        return measured | {f"ema_{name}": own[name] for name in ("top1", "top5", "loss")}

    def evaluate(self) -> dict[str, float]:
        """Measured on the test images, after every epoch where there is a ``score``."""
        return {}

    def validate(self) -> dict[str, float]:
        """As ``evaluate``, of the training images that the split holds out; nothing where it holds out none."""
        return {}

    def final(self) -> dict[str, float]:
        """Measured once, on the last epoch's weights."""
        return {}
