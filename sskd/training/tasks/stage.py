"""The interface between the training loop and the roles: a task has modules, stages and measurements."""

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
Loss = Callable[[Batch], tuple[Tensor, LossTerms]]  # from a batch to the total (0-d, with gradient) and its terms


@dataclass(frozen=True)
class Stage:
    """Epochs with one loss and one set of trained modules. Some methods have initial stages before the main stage."""

    name: str
    epochs: int
    learning_rate_at: Callable[[float], float]  # from the number of finished epochs (0.5: middle of the first)
    trained: Sequence[nn.Module]
    view_transform: ViewTransform
    loss: Loss
    after_step: Callable[[], None] = lambda: None
    begin_epoch: Callable[[int], None] = lambda epoch: None  # epoch from 0; also called when it is resumed
    optimizer: MakeOptimizer = make_optimizer
    eager: str = ""  # why its steps cannot be captured as a CUDA graph; "": they can

    @cached_property
    def parameters(self) -> list[nn.Parameter]:
        """The trained parameters, without duplicates; collected at the first access."""
        unique = {id(p): p for module in self.trained for p in module.parameters() if p.requires_grad}
        return list(unique.values())


class TrainingTask:
    """The task that the loop trains. Subclasses set the attributes and override the measurements."""

    modules: nn.Module  # all trained modules: saved and resumed
    output: nn.Module  # the module whose best and last weights are saved
    stages: list[Stage]  # empty if there is nothing to train
    # the key of evaluate() that decides the best epoch; "": only the last epoch is evaluated
    score: str = ""
    description: dict[str, Any] | None = None  # content of network.json

    average: Average | None = None  # of the output's weights, if the recipe has ``ema``

    def with_average(self, name: str, module: nn.Module) -> nn.ModuleDict:
        """Returns the module under its name, together with the average if there is one."""
        return nn.ModuleDict({name: module} | ({} if self.average is None else {"ema": self.average}))

    def update_average(self) -> None:
        """Updates the average; called after every step of every stage."""
        if self.average is not None:
            self.average.update()

    def with_averages(self, measured: dict[str, float], test: EvaluationSet) -> dict[str, float]:
        """Returns the measured accuracies and, if there is an average, its ema_top1, ema_top5 and ema_loss."""
        if self.average is None:
            return measured
        own = accuracy(self.average.network, test)
        return measured | {f"ema_{name}": own[name] for name in ("top1", "top5", "loss")}

    def evaluate(self) -> dict[str, float]:
        """Returns measurements on the test images; called after every epoch if there is a ``score``."""
        return {}

    def validate(self) -> dict[str, float]:
        """Returns measurements on the validation set; empty if there is none."""
        return {}

    def final(self) -> dict[str, float]:
        """Returns measurements of the last epoch's weights."""
        return {}
