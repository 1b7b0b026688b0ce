"""Optimisers and learning-rate schedules by name; plugins can register more.

An optimiser is a function of (parameters, recipe). A schedule is a pure function of the recipe and the number of
finished epochs, so it has no state to resume.
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

WARM = 0.3  # one-cycle: fraction of the epochs in which the learning rate rises
START, END = 1 / 25, 1 / 250_000  # one-cycle: first and last learning rate, relative to the highest


def make_optimizer(parameters: Parameters, recipe: Recipe) -> torch.optim.Optimizer:
    """Returns the recipe's optimiser of ``parameters``. Raises UserError if the name is unknown, or its function does
    not return a torch optimiser."""
    made = OPTIMIZERS[recipe.optimizer](parameters, recipe)
    if not isinstance(made, torch.optim.Optimizer):
        raise UserError(f"the optimizer '{recipe.optimizer}' gives a {type(made).__name__}, not a torch optimizer")
    return made


@OPTIMIZERS.register("sgd")
def sgd(parameters: Parameters, recipe: Recipe) -> torch.optim.Optimizer:
    """SGD with momentum, or with Nesterov's momentum if ``recipe.nesterov``."""
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


# --- schedules: factors of the learning rate ---------------------------------------------------------------------


def learning_rate_at(recipe: Recipe, progress: float) -> float:
    """Returns the learning rate after ``progress`` epochs (3.5: in the middle of the fourth).

    In the warm-up it rises linearly from 0 to the schedule's value at the end of the warm-up. Raises UserError if the
    schedule is unknown, or its factor is negative or not finite.
    """
    factor_at, warmup = SCHEDULES[recipe.schedule], recipe.warmup_epochs
    factor = factor_at(recipe, max(progress, warmup))
    if progress < warmup:
        factor *= progress / warmup
    lr = recipe.learning_rate * factor
    if not (math.isfinite(lr) and lr >= 0):
        raise UserError(f"the schedule '{recipe.schedule}' gives the factor {factor} after {progress:g} epochs")
    return lr


def after_warmup(recipe: Recipe, progress: float) -> float:
    """Returns the fraction (0 to 1) of the epochs after the warm-up that is finished."""
    return min(1.0, (progress - recipe.warmup_epochs) / max(recipe.epochs - recipe.warmup_epochs, 1e-9))


@SCHEDULES.register("step")
def step(recipe: Recipe, progress: float) -> float:
    """Multiplies the learning rate by ``recipe.decay`` at each milestone. Milestones count from the first epoch (with
    the warm-up), scale with epochs / full_epochs, and are rounded to whole epochs."""
    passed = sum(progress >= round(m * recipe.epochs / recipe.full_epochs) for m in recipe.milestones)
    return recipe.decay**passed


@SCHEDULES.register("cosine")
def cosine(recipe: Recipe, progress: float) -> float:
    """Falls from 1 to 0 along half a cosine (Loshchilov and Hutter, ICLR 2017, without restarts)."""
    return _between(1.0, 0.0, after_warmup(recipe, progress))


@SCHEDULES.register("one-cycle")
def one_cycle(recipe: Recipe, progress: float) -> float:
    """Rises from 1/25 to 1 in 30 % of the epochs, then falls to 1/250,000, along cosines: the learning rates of
    PyTorch's OneCycleLR (after Smith and Topin, 2018), with constant momentum."""
    done = after_warmup(recipe, progress)
    return _between(START, 1.0, done / WARM) if done < WARM else _between(1.0, END, (done - WARM) / (1 - WARM))


def _between(first: float, last: float, share: float) -> float:
    """Returns the value at ``share`` (0 to 1) of half a cosine from ``first`` to ``last``."""
    return last + (first - last) * (1 + math.cos(math.pi * share)) / 2
