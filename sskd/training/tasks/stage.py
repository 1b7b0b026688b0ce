"""The interface between the training loop and the roles: a task has modules, stages and measurements."""

import copy
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor, nn

from sskd.config.recipe import Recipe
from sskd.data.batch import Batch
from sskd.data.views import ViewTransform
from sskd.methods import LossTerms
from sskd.networks import Network
from sskd.optim import make_optimizer
from sskd.runs.trained import NetworkInfo
from sskd.training.evaluation import accuracy
from sskd.training.setup import Setup

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
        return [p for p in nn.ModuleList(self.trained).parameters() if p.requires_grad]


class Average(nn.Module):
    """The exponential moving average (EMA) a of the weights and buffers w of a trained network: a <- decay a +
    (1 - decay) w after every step, starting from the initial weights. Integer buffers are copied. ``network`` is a copy
    of the network with the averaged weights."""

    def __init__(self, trained: Network, decay: float) -> None:
        super().__init__()
        self.network = copy.deepcopy(trained).requires_grad_(False).eval()
        self._trained = (trained,)  # in a tuple, so that it is not a submodule
        self._decay = decay

    @torch.no_grad()
    def update(self) -> None:
        """Updates the average after a step. Only uses device tensors, so that a CUDA graph can capture it."""
        both = (self.network, *self._trained)
        pairs = list(zip(*([*network.parameters(), *network.buffers()] for network in both), strict=True))
        averages, weights = zip(*(pair for pair in pairs if pair[0].is_floating_point()), strict=True)
        torch._foreach_lerp_(averages, weights, 1 - self._decay)
        for own, new in pairs:
            if not own.is_floating_point():
                own.copy_(new)


class TrainingTask:
    """The task that the loop trains. By default its measurements are the accuracies of ``network``. Subclasses set the
    attributes."""

    setup: Setup
    network: Network
    modules: nn.Module  # all trained modules: saved and resumed
    output: nn.Module  # the module whose best and last weights are saved
    stages: list[Stage]  # empty if there is nothing to train
    # the key of evaluate() that decides the best epoch; "": only the last epoch is evaluated
    score: str = "top1"
    description: NetworkInfo | None = None  # content of network.json
    average: Average | None = None  # of the network's weights, if the recipe has ``ema``; updated after every step

    def with_average(self, name: str, trained: nn.Module) -> nn.ModuleDict:
        """Returns the trained module under its name. If the recipe has ``ema``, creates ``average`` and adds it."""
        modules = nn.ModuleDict({name: trained})
        if decay := self.setup.spec.recipe.ema:
            self.average = modules["ema"] = Average(self.network, decay)
        return modules

    def evaluate(self) -> dict[str, float]:
        """Returns measurements on the test images, with ema_top1, ema_top5 and ema_loss if there is an average; called
        after every epoch if there is a ``score``."""
        measured = accuracy(self.network, self.setup.test)
        if self.average is None:
            return measured
        own = accuracy(self.average.network, self.setup.test)
        return measured | {f"ema_{name}": own[name] for name in ("top1", "top5", "loss")}

    def validate(self) -> dict[str, float]:
        """Returns measurements on the validation set; empty if there is none."""
        return accuracy(self.network, self.setup.validation) if self.setup.validation else {}

    def final(self) -> dict[str, float]:
        """Returns measurements of the last epoch's weights."""
        return {}
