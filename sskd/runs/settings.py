"""Settings of methods and pretext tasks in specs: given values override the published values of configs/."""

from functools import cache
from typing import Annotated, Any

from pydantic import BeforeValidator, SerializeAsAny, TypeAdapter

from sskd.config.recipe import Recipe
from sskd.config.settings import MethodSettings, PretextSettings
from sskd.config.validation import from_dict
from sskd.config.yaml import read_yaml
from sskd.paths import CONFIGS


@cache
def _load_table(name: str) -> dict[str, dict[str, Any]]:
    path = CONFIGS / name
    return (read_yaml(path) or {}) if path.exists() else {}


def published_table(name: str) -> dict[str, Any]:
    """Returns a method's entry in configs/methods.yaml: settings, and under "when" further settings that some values
    imply."""
    return _load_table("methods.yaml").get(name, {})


def pair_tables(name: str) -> dict[str, dict[str, Any]]:
    """Returns configs/pairs/METHOD.yaml, which maps "teacher/student" to an entry like those of ``published_table``;
    empty if there is no such file."""
    return _load_table(f"pairs/{name}.yaml")


def published_settings(given: dict[str, Any], pair: str = "") -> dict[str, Any]:
    """Returns a method's published values: those of configs/methods.yaml, then those of configs/pairs/METHOD.yaml
    for the pair ("teacher/student"), then those under "when" for settings that ``given`` chooses ({"standardise":
    True})."""
    name = given["name"]
    layers = [published_table(name), pair_tables(name).get(pair, {})]
    values: dict[str, Any] = {}
    for layer in layers:
        values |= {key: value for key, value in layer.items() if key != "when"}
    for layer in layers:
        for setting, choices in layer.get("when", {}).items():
            values |= choices.get(str(given.get(setting)).lower(), {})  # as written in YAML: "true", "dkd"
    return values


def parse_method(data: Any, pair: str = "") -> Any:
    """Converts {"name": "crd", ...} to the settings of that method, merged with its published values. The settings'
    ``model_fields_set`` holds the keys that were given: if the pair is set later, its published values replace the
    others."""
    if isinstance(data, str):
        data = {"name": data}
    elif isinstance(data, MethodSettings) and pair:
        data = {"name": data.name} | {key: getattr(data, key) for key in data.model_fields_set}
    if not isinstance(data, dict) or "name" not in data:
        return data
    from sskd.methods import METHODS  # methods import this module

    settings = METHODS[data["name"]].Settings.model_validate(published_settings(data, pair) | data)
    return type(settings).model_construct(_fields_set=set(data), **dict(settings))


def parse_pretext(data: Any) -> Any:
    """Converts the name of a task, or {"name": "contrastive", ...}, to the settings of that task."""
    if isinstance(data, str):
        data = {"name": data}
    if not isinstance(data, dict) or "name" not in data:
        return data
    from sskd.pretext import PRETEXTS

    return PRETEXTS[data["name"]].Settings.model_validate(data)


def method_settings(name: str, **settings: Any) -> MethodSettings:
    """Returns a method's settings: the given values, merged with the published values that hold for every pair.
    Raises UserError with the problem."""
    made: MethodSettings = from_dict(_METHOD, {**settings, "name": name}, f"settings of the method '{name}'")
    return made


MethodField = Annotated[SerializeAsAny[MethodSettings], BeforeValidator(parse_method)]
PretextField = Annotated[SerializeAsAny[PretextSettings], BeforeValidator(parse_pretext)]
_METHOD: TypeAdapter[MethodSettings] = TypeAdapter(MethodField)


def check_recipe_names(recipe: Recipe) -> None:
    """Raises UserError for an optimiser, schedule or augmentation that does not exist. The defaults are not checked,
    so that a spec with them is read without importing torch."""
    if (recipe.optimizer, recipe.schedule) != ("sgd", "step"):
        from sskd.optim import OPTIMIZERS, SCHEDULES

        OPTIMIZERS[recipe.optimizer]
        SCHEDULES[recipe.schedule]
    if recipe.augmentation != "standard":
        from sskd.data.augmentations import AUGMENTATIONS

        AUGMENTATIONS[recipe.augmentation]
