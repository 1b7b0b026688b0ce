"""A method's and a pretext task's settings as a spec has them: what is given, over the published values of configs/."""

from functools import cache
from typing import Annotated, Any

from pydantic import BeforeValidator, SerializeAsAny

from sskd.config.fields import StrictModel
from sskd.config.recipe import Recipe
from sskd.config.settings import MethodSettings, PretextSettings
from sskd.config.validation import from_dict
from sskd.config.yaml import read_yaml
from sskd.paths import CONFIGS


@cache  # every method that is named asks for it
def _load_table(name: str) -> dict[str, dict[str, Any]]:
    path = CONFIGS / name
    return (read_yaml(path) or {}) if path.exists() else {}


def published_table(name: str) -> dict[str, Any]:
    """A method's entry in configs/methods.yaml: settings, and under "when" what some of their values bring along."""
    return _load_table("methods.yaml").get(name, {})


def pair_tables(name: str) -> dict[str, dict[str, Any]]:
    """configs/pairs/METHOD.yaml: "teacher/student" to an entry of the same kind; empty if there is no such file."""
    return _load_table(f"pairs/{name}.yaml")


def published_settings(given: dict[str, Any], pair: str = "") -> dict[str, Any]:
    """A method's published values: configs/methods.yaml, then what configs/pairs/METHOD.yaml has for the pair
    ("teacher/student"), then what either has under "when", for settings that ``given`` chooses ({"standardise": True}).
    """
    name = given["name"]
    layers = [published_table(name), pair_tables(name).get(pair, {})]
    values: dict[str, Any] = {}
    for layer in layers:
        values |= {key: value for key, value in layer.items() if key != "when"}
    for layer in layers:
        for setting, choices in layer.get("when", {}).items():
            values |= choices.get(str(given.get(setting)).lower(), {})  # YAML's names of values: "true", "dkd"
    return values


def parse_method(data: Any, pair: str = "") -> Any:
    """{"name": "crd", ...} to that method's own settings, over its published values. What was given, and not published,
    is noted as the settings' ``model_fields_set``: of settings that were made for no pair, a pair changes the rest."""
    if isinstance(data, str):
        data = {"name": data}
    elif isinstance(data, MethodSettings) and pair:
        data = {"name": data.name} | {key: getattr(data, key) for key in data.model_fields_set}
    if not isinstance(data, dict) or "name" not in data:
        return data
    from sskd.methods import METHODS  # here: methods import this module for their settings

    settings = METHODS[data["name"]].Settings.model_validate(published_settings(data, pair) | data)
    return type(settings).model_construct(_fields_set=set(data), **dict(settings))


def parse_pretext(data: Any) -> Any:
    """A task's name, or {"name": "contrastive", ...}, to that task's own settings."""
    if isinstance(data, str):
        data = {"name": data}
    if not isinstance(data, dict) or "name" not in data:
        return data
    from sskd.pretext import PRETEXTS

    return PRETEXTS[data["name"]].Settings.model_validate(data)


def method_settings(name: str, **settings: Any) -> MethodSettings:
    """A method's settings: what is given, over the published values for no pair in particular. UserError names what is
    wrong."""
    return from_dict(_OneMethod, {"method": {**settings, "name": name}}, f"settings of the method '{name}'").method


MethodField = Annotated[SerializeAsAny[MethodSettings], BeforeValidator(parse_method)]
PretextField = Annotated[SerializeAsAny[PretextSettings], BeforeValidator(parse_pretext)]


class _OneMethod(StrictModel):
    method: MethodField


def check_recipe_names(recipe: Recipe) -> None:
    """UserError for an optimiser, schedule or augmentation that does not exist. The defaults do, so that a spec of them
    is read without importing torch."""
    if (recipe.optimizer, recipe.schedule) != ("sgd", "step"):
        from sskd.optim import OPTIMIZERS, SCHEDULES

        OPTIMIZERS[recipe.optimizer]
        SCHEDULES[recipe.schedule]
    if recipe.augmentation != "standard":
        from sskd.data.augmentations import AUGMENTATIONS

        AUGMENTATIONS[recipe.augmentation]
