"""Optimisers and schedules: what they are against torch's own, what a recipe refuses, and runs that train with each."""

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from sskd.config.recipe import Recipe
from sskd.config.validation import from_dict
from sskd.errors import UserError
from sskd.optim import OPTIMIZERS, SCHEDULES, after_warmup, learning_rate_at, make_optimizer
from sskd.training.run import train
from tests import small


def recipe(**changes: Any) -> Recipe:
    made: Recipe = from_dict(Recipe, changes, "here")
    return made


def test_milestones_scale_with_the_epochs() -> None:
    full, short = recipe(), recipe(epochs=24)
    assert [learning_rate_at(full, epoch) for epoch in (0, 149, 149.99, 150, 180, 239)] == pytest.approx(
        [0.05, 0.05, 0.05, 0.005, 0.0005, 0.00005]
    )
    assert [learning_rate_at(short, epoch) for epoch in (14, 15, 18, 21)] == pytest.approx(
        [0.05, 0.005, 0.0005, 0.00005]
    )


def of_torch(scheduler: Any, steps: int) -> list[float]:
    """The rates that a torch scheduler gives in ``steps`` steps."""
    rates = []
    for _ in range(steps):
        rates.append(scheduler.optimizer.param_groups[0]["lr"])
        scheduler.optimizer.step()
        scheduler.step()
    return rates


def one_parameter() -> torch.optim.Optimizer:
    return torch.optim.SGD([nn.Parameter(torch.zeros(1))], lr=0.05)


def test_cosine_and_one_cycle_are_torchs() -> None:
    """torch's cycle reaches its last rate in the last step, ours in the step after it: 31 of its rates are 30 here."""
    cosine = torch.optim.lr_scheduler.CosineAnnealingLR(one_parameter(), T_max=30)
    cycle = torch.optim.lr_scheduler.OneCycleLR(one_parameter(), 0.05, total_steps=31, pct_start=10 / 31)
    for schedule, scheduler in (("cosine", cosine), ("one-cycle", cycle)):
        made = recipe(schedule=schedule, epochs=10)
        assert [learning_rate_at(made, step / 3) for step in range(30)] == pytest.approx(of_torch(scheduler, 30))
    assert learning_rate_at(made, 10) == pytest.approx(0.05 / 25 / 1e4)


@pytest.mark.parametrize("schedule", ["step", "cosine", "one-cycle"])
def test_warm_up_rises_linearly_to_where_the_schedule_begins(schedule: str) -> None:
    made = recipe(schedule=schedule, epochs=20, warmup_epochs=4.0)
    first = SCHEDULES[schedule](made, 4.0) * 0.05
    assert [learning_rate_at(made, done) for done in (0, 1, 2.5, 4)] == pytest.approx(
        [0, first / 4, first * 2.5 / 4, first]
    )
    if schedule != "step":  # whose milestones stay where they are
        assert learning_rate_at(made, 12) == pytest.approx(learning_rate_at(recipe(schedule=schedule, epochs=16), 8))
    else:
        assert learning_rate_at(made, 13) == learning_rate_at(recipe(epochs=20), 13)


@pytest.mark.parametrize(
    ("changes", "kind", "expected"),
    [
        ({}, torch.optim.SGD, {"momentum": 0.9, "nesterov": False, "weight_decay": 5e-4, "lr": 0.05}),
        ({"nesterov": True, "momentum": 0.8}, torch.optim.SGD, {"momentum": 0.8, "nesterov": True}),
        (
            {"optimizer": "adamw", "learning_rate": 1e-3, "betas": [0.8, 0.95], "weight_decay": 0.05},
            torch.optim.AdamW,
            {"betas": (0.8, 0.95), "weight_decay": 0.05, "lr": 1e-3},
        ),
    ],
)
def test_optimizers_have_the_recipes_values(changes: dict[str, Any], kind: type, expected: dict[str, Any]) -> None:
    made = make_optimizer([nn.Parameter(torch.zeros(2))], recipe(**changes))
    assert type(made) is kind
    assert {key: made.param_groups[0][key] for key in expected} == expected


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"optimizer": "adam"}, "unknown optimizer 'adam'; did you mean 'adamw'"),
        ({"schedule": "cosin"}, "unknown schedule 'cosin'; did you mean 'cosine'"),
        ({"augmentation": "cutot"}, "unknown augmentation 'cutot'; did you mean 'cutout'"),
        (
            {"optimizer": "adamw", "nesterov": True},
            "nesterov only applies to optimizer 'sgd', but optimizer is 'adamw'",
        ),
        ({"optimizer": "adamw", "momentum": 0.8}, "momentum only applies to optimizer 'sgd'"),
        ({"betas": [0.5, 0.5]}, "betas only applies to optimizer 'adamw'"),
        ({"optimizer": "adamw", "betas": [0.5, 1.0]}, "betas.1: Input should be less than 1"),
        ({"cutout_size": 4}, "cutout_size only applies to augmentation 'cutout'"),
        ({"nesterov": True, "momentum": 0.0}, "nesterov needs a momentum"),
        ({"epochs": 5, "warmup_epochs": 5.0}, r"warmup_epochs \(5\)"),
    ],
)
def test_refused_when_planned(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=message):
        small.spec(small.teacher(recipe=changes))


@pytest.mark.parametrize(
    "recipe",
    [
        {"nesterov": True, "schedule": "one-cycle", "warmup_epochs": 0.5, "augmentation": "none"},
        {"optimizer": "adamw", "learning_rate": 0.002, "schedule": "cosine", "augmentation": "cutout"},
    ],
    ids=["sgd", "adamw"],
)
def test_each_trains_and_resumes_inside_an_epoch(recipe: dict[str, Any], tmp_path: Path) -> None:
    recipe = small.RECIPE | {"epochs": 3} | recipe
    spec = small.spec(small.teacher(recipe=recipe, dataset={"name": "digits16"}))
    rows = small.metrics(small.assert_resumes(spec, tmp_path, every=4))  # of three steps in an epoch
    assert rows[-1]["loss"] < rows[0]["loss"]


@pytest.fixture
def own() -> None:
    """Optimisers and schedules of a user's."""

    @OPTIMIZERS.register("factored")
    def factored(parameters: Any, recipe: Recipe) -> torch.optim.Optimizer:
        return torch.optim.Adafactor(parameters, lr=recipe.learning_rate, weight_decay=recipe.weight_decay)

    @SCHEDULES.register("linear")
    def linear(recipe: Recipe, progress: float) -> float:
        return 1 - after_warmup(recipe, progress)

    @SCHEDULES.register("wrong")
    def wrong(recipe: Recipe, progress: float) -> float:
        return float("nan")

    @OPTIMIZERS.register("nothing")
    def nothing(parameters: Any, recipe: Recipe) -> Any:
        return None


def test_ones_own(own: None, tmp_path: Path) -> None:
    """An optimiser whose state has other shapes than the parameters is resumed, too."""
    changes = {"optimizer": "factored", "schedule": "linear", "betas": [0.5, 0.5]}
    spec = small.spec(small.teacher(recipe=small.RECIPE | changes))
    rows = small.metrics(small.assert_resumes(spec, tmp_path))
    assert [row["rate"] for row in rows] == [0.02, 0.01]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"schedule": "wrong"}, "the schedule 'wrong' gives the factor nan after 0 epochs"),
        ({"optimizer": "nothing"}, "the optimizer 'nothing' gives a NoneType, not a torch optimizer"),
    ],
)
def test_ones_own_that_gives_nonsense(own: None, changes: dict[str, str], message: str, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=message):
        train(small.spec(small.teacher(recipe=small.RECIPE | changes)), tmp_path, small.EXECUTION)
