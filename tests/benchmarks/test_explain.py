"""run_all.py explain: every key has a description, and what is printed is the key's type, default and meaning."""

from collections.abc import Iterator

import pytest
from pydantic import BaseModel

from benchmarks.commands.explain import explain
from benchmarks.commands.main import main
from benchmarks.dispatch.cluster import ClusterSpec, Parameters
from benchmarks.profiles.profile import OVERRIDABLE, Profile
from sskd.config.execution import Execution
from sskd.config.pretrained import FromFile
from sskd.config.recipe import DatasetSpec, Recipe, SplitSpec
from sskd.methods import METHODS
from sskd.pretext import PRETEXTS
from sskd.runs.spec import CommonSpec, FromRun, HeadSpec, StudentSpec, TeacherSpec

MODELS: list[type[BaseModel]] = [Profile, Recipe, SplitSpec, DatasetSpec, Execution, FromFile, FromRun]
MODELS += [CommonSpec, TeacherSpec, HeadSpec, StudentSpec, ClusterSpec, Parameters]


def test_every_field_has_a_docstring() -> None:
    settings = [METHODS[name].Settings for name in METHODS] + [PRETEXTS[name].Settings for name in PRETEXTS]
    for model in [*MODELS, *settings]:
        for name, field in model.model_fields.items():
            assert field.description, f"{model.__module__}.{model.__name__}.{name}"
            assert field.description.endswith("."), field.description


@pytest.mark.parametrize(
    ("key", "lines"),
    [
        (
            "recipe.full_epochs",
            [
                "recipe.full_epochs: a whole number, above 0",
                "default: 240",
                Recipe.model_fields["full_epochs"].description[:30],
            ],
        ),
        ("head_recipe.epochs", ["head_recipe.epochs: a whole number, above 0", "default: 60", "Number of epochs"]),
        (
            "split.noise",
            ["split.noise: a number, at least 0, at most 1", "default: 0.0", "Fraction of the training labels"],
        ),
        ("recipe.betas", ["recipe.betas: a list of 2, each a number, at least 0, below 1", "default: [0.9, 0.999]"]),
        ("recipe.precision", ["recipe.precision: auto or fp32 or bf16 or fp16", "default: auto"]),
        (
            "execution.threads",
            ["execution.threads: a whole number, at least 1, at most 1024; or null", "default: null"],
        ),
        ("method_settings.at.weight", ["method_settings.at.weight: a number, at least 0", "default: 1000.0"]),
        (
            "method_settings.sskd.ss_keep",
            ["method_settings.sskd.ss_keep: a number", "default: 0.75", "Fraction of the"],
        ),
        ("pretext_settings.contrastive.temperature", ["pretext_settings.contrastive.temperature: ", "default: 1.0"]),
        (
            "method_recipes.sskd.epochs",
            ["method_recipes.sskd.epochs: a whole number", "default: inherited"],
        ),
        (
            "overrides.fig4a.recipe.flip",
            ["overrides.fig4a.recipe.flip: true or false", "default: inherited"],
        ),
        ("teachers.resnet56.weights", ["teachers.resnet56.weights: text", "default: none", "A file (.pth"]),
        ("learning_rates.MobileNetV2", ["learning_rates.MobileNetV2: a number, above 0", "default: 0.01"]),
        ("cluster", ["cluster: text", "default: inline", "Cluster on which"]),
        ("cluster.time", ["cluster.time: text or a whole number or null", "default: null", "Time limit"]),
        ("cluster.retries", ["cluster.retries: a whole number, at least 0", "default: 2", "Number of times"]),
        ("cluster.qos", ["cluster.qos: any value", "default: none", "Parameters of submitit"]),
        ("seed", ["seed: a whole number", "default: 0", "Seed"]),
        ("methods", ["methods: a list, each a mapping of keys to values", "default: [none, kd, sskd]"]),
    ],
)
def test_type_default_and_docstring(key: str, lines: list[str]) -> None:
    printed = explain(key).splitlines()
    for line, expected in zip(printed, lines, strict=False):
        assert line.startswith(expected)
    assert len(printed) >= 3


def test_what_has_keys_lists_them() -> None:
    text = explain("recipe")
    for name, field in Recipe.model_fields.items():
        assert f"\n  {name} (default: " in text
        assert " ".join((field.description or "").split()) in text
    assert "\n  epochs (default: 60): " in explain("head_recipe")
    assert "\n  epochs: Number of epochs" in explain("overrides.fig4a.recipe")


@pytest.mark.parametrize(
    ("key", "message"),
    [
        ("recip", "unknown key 'recip'; did you mean 'recipe'?"),
        ("recipe.full_epoch", "unknown key of recipe 'full_epoch'; did you mean 'full_epochs'?"),
        ("recipe.epochs.x", "'recipe.epochs'"),
        ("method_settings.sskdd.x", "unknown method 'sskdd'; did you mean 'sskd'?"),
        ("method_recipes.sskdd.epochs", "unknown method 'sskdd'; did you mean 'sskd'?"),
        ("head_recipes.jigsw.epochs", "unknown pretext 'jigsw'; did you mean 'jigsaw'?"),
        ("overrides.fig4.recipe", "unknown benchmark 'fig4'; did you mean 'fig4"),
    ],
)
def test_unknown_keys(key: str, message: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["explain", key]) == 2
    shown = capsys.readouterr().err
    assert message in shown
    assert shown.count("\n") == 1


def all_keys(model: type[BaseModel], prefix: str) -> Iterator[str]:
    for name in model.model_fields:
        yield f"{prefix}{name}"


def test_every_key_of_a_profile_can_be_asked_for(capsys: pytest.CaptureFixture[str]) -> None:
    keys = [
        *all_keys(Profile, ""),
        *all_keys(ClusterSpec, "cluster."),
        *(f"overrides.table1.{key}" for key in OVERRIDABLE),
    ]
    for key in keys:
        assert main(["explain", key]) == 0
        assert capsys.readouterr().out.startswith(f"{key}: ")
