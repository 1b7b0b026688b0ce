"""run_all.py explain: every key has a description, and what is printed is the key's type, default and meaning."""

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
MODELS += [METHODS[name].Settings for name in METHODS] + [PRETEXTS[name].Settings for name in PRETEXTS]


def test_every_field_has_a_docstring() -> None:
    for model in MODELS:
        for name, field in model.model_fields.items():
            assert (field.description or "").endswith("."), f"{model.__module__}.{model.__name__}.{name}"


@pytest.mark.parametrize(
    ("key", "kind", "default"),
    [
        ("recipe.full_epochs", "a whole number, above 0", "240"),
        ("head_recipe.epochs", "a whole number, above 0", "60"),
        ("split.noise", "a number, at least 0, at most 1", "0.0"),
        ("recipe.betas", "a list of 2, each a number, at least 0, below 1", "[0.9, 0.999]"),
        ("recipe.precision", "auto or fp32 or bf16 or fp16", "auto"),
        ("execution.threads", "a whole number, at least 1, at most 1024; or null", "null"),
        ("method_settings.at.weight", "a number, at least 0", "1000.0"),
        ("method_settings.sskd.ss_keep", "a number", "0.75"),
        ("pretext_settings.contrastive.temperature", "", "1.0"),
        ("method_recipes.sskd.epochs", "a whole number", "inherited"),
        ("overrides.fig4a.recipe.flip", "true or false", "inherited"),
        ("teachers.resnet56.weights", "text", "none"),
        ("learning_rates.MobileNetV2", "a number, above 0", "0.01"),
        ("cluster", "text", "inline"),
        ("cluster.time", "text or a whole number or null", "null"),
        ("cluster.qos", "any value", "none"),
        ("seed", "a whole number", "0"),
        ("methods", "a list, each a mapping of keys to values", "[none, kd, sskd]"),
    ],
)
def test_type_default_and_docstring(key: str, kind: str, default: str) -> None:
    first, second, *description = explain(key).splitlines()
    assert first.startswith(f"{key}: {kind}")
    assert second.startswith(f"default: {default}")
    assert description


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


def test_every_key_of_a_profile_can_be_asked_for() -> None:
    keys = [*Profile.model_fields, *(f"cluster.{name}" for name in ClusterSpec.model_fields)]
    for key in [*keys, *(f"overrides.table1.{name}" for name in OVERRIDABLE)]:
        assert explain(key).startswith(f"{key}: ")
