"""Optimisers and learning-rate schedules, by the names that a recipe gives them. A user's own registers here too.

An optimiser is a function of (parameters, recipe). A schedule is a pure function of the recipe and of how many epochs
are done, so a resumed run needs no state of it: it goes on at the rate that it would have had.
"""

import math
from collections.abc import Callable, Iterable

import torch
from torch import nn

from sskd.config.recipe import Recipe
from sskd.errors import UserError
from sskd.registry import Registry

Parameters = Iterable[nn.Parameter]

OPTIMIZERS: Registry[Callable[[Parameters, Recipe], torch.optim.Optimizer]] = Registry("optimizer", "sskd.optim")
SCHEDULES: Registry[Callable[[Recipe, float], float]] = Registry("schedule", "sskd.optim")

WARM = 0.3  # one-cycle: the share of the epochs in which the rate rises
START, END = 1 / 25, 1 / 250_000  # one-cycle: the first and the last rate, of the highest


def make_optimizer(parameters: Parameters, recipe: Recipe) -> torch.optim.Optimizer:
    """The recipe's optimiser over ``parameters``. UserError if the name is unknown, or its function gives none."""
    made = OPTIMIZERS[recipe.optimizer](parameters, recipe)
    if not isinstance(made, torch.optim.Optimizer):
        raise UserError(f"the optimizer '{recipe.optimizer}' gives a {type(made).__name__}, not a torch optimizer")
    return made


@OPTIMIZERS.register("sgd")
def sgd(parameters: Parameters, recipe: Recipe) -> torch.optim.Optimizer:
    """Stochastic gradient descent with momentum, Nesterov's where ``recipe.nesterov``."""
    return torch.optim.SGD(
        parameters,
        lr=recipe.learning_rate,
        momentum=recipe.momentum,
        weight_decay=recipe.weight_decay,
        nesterov=recipe.nesterov,
        fused=True,  # one pass over each parameter
    )


@OPTIMIZERS.register("adamw")
def adamw(parameters: Parameters, recipe: Recipe) -> torch.optim.Optimizer:
    """Adam with decoupled weight decay (Loshchilov and Hutter, ICLR 2019)."""
    return torch.optim.AdamW(
        parameters, lr=recipe.learning_rate, betas=recipe.betas, weight_decay=recipe.weight_decay, fused=True
    )


# --- schedules: what the learning rate is multiplied by ----------------------------------------------------------


def learning_rate_at(recipe: Recipe, progress: float) -> float:
    """The rate of the step that follows ``progress`` epochs (3.5: in the middle of the fourth).

    During the warm-up it rises linearly from 0 to what the schedule has at its end. UserError if the schedule's name
    is unknown, or its factor is no finite number from 0 on.
    """
    factor_at, warmup = SCHEDULES[recipe.schedule], recipe.warmup_epochs
    factor = factor_at(recipe, max(progress, warmup))
    if progress < warmup:
        factor *= progress / warmup
    rate = recipe.learning_rate * factor
    if not (math.isfinite(rate) and rate >= 0):
        raise UserError(f"the schedule '{recipe.schedule}' gives the factor {factor} after {progress:g} epochs")
    return rate


def after_warmup(recipe: Recipe, progress: float) -> float:
    """The share of the epochs after the warm-up that is done, 0 to 1."""
    return min(1.0, (progress - recipe.warmup_epochs) / max(recipe.epochs - recipe.warmup_epochs, 1e-9))


@SCHEDULES.register("step")
def step(recipe: Recipe, progress: float) -> float:
    """The rate is multiplied by ``recipe.decay`` after each milestone. Milestones count epochs, warm-up included; they
    scale with epochs / full_epochs and are rounded to whole epochs."""
    passed = sum(progress >= round(m * recipe.epochs / recipe.full_epochs) for m in recipe.milestones)
    return recipe.decay**passed


@SCHEDULES.register("cosine")
def cosine(recipe: Recipe, progress: float) -> float:
    """From 1 to 0 along half a cosine (Loshchilov and Hutter, ICLR 2017, without restarts)."""
    return _between(1.0, 0.0, after_warmup(recipe, progress))


@SCHEDULES.register("one-cycle")
def one_cycle(recipe: Recipe, progress: float) -> float:
    """From 1/25 up to 1 in 30 % of the epochs, then down to 1/250,000, along cosines: the rates of torch's OneCycleLR
    (after Smith and Topin, 2018). The momentum stays as it is."""
    done = after_warmup(recipe, progress)
    return _between(START, 1.0, done / WARM) if done < WARM else _between(1.0, END, (done - WARM) / (1 - WARM))


def _between(first: float, last: float, share: float) -> float:
    """Along half a cosine from ``first`` (at 0) to ``last`` (at 1)."""
    return last + (first - last) * (1 + math.cos(math.pi * share)) / 2
