"""DOT (Zhao et al. 2023): SGD with a larger momentum for the gradient of the distillation loss than for that of CE."""

from collections.abc import Callable, Iterable
from typing import Any, Literal

import torch
from pydantic import NonNegativeFloat
from torch import Tensor, nn

from sskd.config.recipe import Recipe
from sskd.config.settings import MethodSettings
from sskd.data.batch import Batch
from sskd.errors import UserError
from sskd.methods.base import METHODS, LossTerms, Method, MethodContext, MethodInfo
from sskd.networks import Features
from sskd.runtime.distributed import this_rank


class TwoMomenta(torch.optim.Optimizer):
    """SGD with two momentum buffers per parameter: one for the task's gradient, with momentum - difference, and one for
    the gradient of all other terms, with momentum + difference.

    A parameter's ``grad`` is that of the whole loss, ``task`` holds the task's part of it, and ``by_rest`` the
    parameters that the other terms reach. A parameter that only one of the two reaches has one buffer with the plain
    momentum. Weight decay is added to the task's gradient, or to the other gradient (from the second step on) if the
    task does not reach the parameter. With difference 0 this is SGD.
    """

    def __init__(
        self, parameters: Iterable[nn.Parameter], lr: float, momentum: float, difference: float, weight_decay: float
    ) -> None:
        super().__init__(parameters, {"lr": lr, "momentum": momentum, "weight_decay": weight_decay})
        self.difference = difference
        self.task: dict[nn.Parameter, Tensor] = {}
        self.by_rest: set[nn.Parameter] | None = None  # None until the first loss

    def split(self, task: Tensor, rest: Tensor) -> None:
        """Stores the gradient of the task's loss and, at the first call, the parameters that the other terms reach.
        task, rest: 0-d, with gradient."""
        parameters = [parameter for group in self.param_groups for parameter in group["params"]]

        def reached(loss: Tensor) -> dict[nn.Parameter, Tensor]:
            found = torch.autograd.grad(loss, parameters, retain_graph=True, allow_unused=True)
            return {p: gradient for p, gradient in zip(parameters, found, strict=True) if gradient is not None}

        self.task = reached(task)
        if self.by_rest is None:
            self.by_rest = set(reached(rest))

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> None:  # type: ignore[override]
        for group in self.param_groups:
            for parameter in group["params"]:
                if parameter.grad is not None:
                    self._step(parameter, group)

    def _step(self, parameter: nn.Parameter, group: dict[str, Any]) -> None:
        state, momentum, whole = self.state[parameter], group["momentum"], parameter.grad
        assert whole is not None
        decay = group["weight_decay"] * parameter
        task, rest = self.task.get(parameter), self.by_rest is None or parameter in self.by_rest
        if task is not None and rest:
            gradients = {"task": task + decay, "distillation": whole - task}
            momenta = {"task": momentum - self.difference, "distillation": momentum + self.difference}
        else:
            name = "distillation" if task is None else "task"
            late = task is not None or name in state
            gradients = {name: whole + decay if late else whole.clone()}
            momenta = {name: momentum}
        for name, gradient in gradients.items():
            state[name] = state[name].mul_(momenta[name]).add_(gradient) if name in state else gradient
        for name in gradients:
            parameter.sub_(group["lr"] * state[name])


class DOTSettings(MethodSettings):
    """``ce_weight`` and ``kd_weight`` belong to the host; published values are in configs/methods.yaml."""

    host: Literal["kd", "crd"] = "kd"
    """Method whose gradient gets the larger momentum."""
    weight: NonNegativeFloat = 0.8
    """The weight of the host's term, if the host is crd."""
    momentum_difference: NonNegativeFloat = 0.075
    """Subtracted from the recipe's momentum for the task, and added to it for the distillation terms."""


@METHODS.register("dot")
class DOT(Method):
    """Uses the host's loss with its own optimiser in the main stage, which needs a second backward pass."""

    Settings = DOTSettings
    info = MethodInfo(
        "DOT",
        "Zhao et al., ICCV 2023, DOT: A Distillation-Oriented Trainer",
        2023,
        "knowledge of its host, with a larger momentum",
        family="logits",
        url="https://arxiv.org/abs/2307.08436",
        code="https://github.com/megvii-research/mdistiller",
        formula=r"v_c \leftarrow (m - \Delta) v_c + g_c + \lambda \theta, \quad v_d \leftarrow (m + \Delta) v_d + g_d, "
        r"\quad \theta \leftarrow \theta - \eta (v_c + v_d)",
        where="The loss is the host's (KD or CRD); the optimiser differs. $g_c$ is the gradient of the weighted "
        r"cross-entropy, $g_d$ that of all other terms, $\theta$ the weights, $m$ the momentum, $\Delta$ "
        r"`momentum_difference`, $\lambda$ the weight decay, $\eta$ the learning rate.",
        differs="Of the paper's hosts, KD and CRD are implemented. Several processes, float16, Nesterov's momentum "
        "and other optimisers than SGD are rejected.",
    )
    required_features = frozenset({"logits", "pooled", "labels", "indices"})

    def __init__(self, settings: DOTSettings, context: MethodContext) -> None:
        super().__init__(settings, context)
        kind = METHODS[settings.host]
        shared = settings.model_dump(include={"ce_weight", "kd_weight", "kd_temperature", "divergence", "weight"})
        known = {key: value for key, value in shared.items() if key in kind.Settings.model_fields}
        self.host = kind(kind.Settings(name=settings.host, **known), context)
        self._optimizer: TwoMomenta | None = None

    @classmethod
    def check_recipe(cls, settings: DOTSettings, recipe: Recipe) -> None:
        refused = {
            "several processes": max(recipe.processes, this_rank().world_size) > 1,
            "recipe.precision fp16": recipe.precision == "fp16",
            "recipe.nesterov": recipe.nesterov,
            f"recipe.optimizer {recipe.optimizer}": recipe.optimizer != "sgd",
        }
        for what, given in refused.items():
            if given:
                raise UserError(f"method 'dot' has its own optimiser, which does not support {what}: change it")

    @property
    def loss_weights(self) -> dict[str, float]:
        return self.host.loss_weights

    def optimizer(self, parameters: Iterable[nn.Parameter], recipe: Recipe) -> TwoMomenta:
        rates = recipe.learning_rate, recipe.momentum, self.settings.momentum_difference, recipe.weight_decay
        self._optimizer = TwoMomenta(parameters, *rates)
        return self._optimizer

    def begin_epoch(self, epoch: int) -> None:
        self.host.begin_epoch(epoch)

    def after_step(self) -> None:
        self.host.after_step()

    def loss_terms(self, student: Features, teacher: Features, batch: Batch) -> LossTerms:
        return self.host.loss_terms(student, teacher, batch)

    def forward(self, student: Features, teacher: Features | None, batch: Batch) -> tuple[Tensor, LossTerms]:
        total, terms = self.host(student, teacher, batch)
        if self._optimizer is not None and torch.is_grad_enabled():
            task = self.settings.ce_weight * terms.losses["ce"]
            rest = torch.stack([loss for name, loss in terms.losses.items() if name != "ce"]).sum()
            self._optimizer.split(task, rest)
        return total, terms
