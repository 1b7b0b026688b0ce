"""Reads profiles: applies presets and --set overrides, and checks every name."""

import os
from collections.abc import Sequence
from functools import reduce
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter

from benchmarks.profiles.profile import Profile, changed_recipe, mapping, merged, parts, split_pair
from benchmarks.profiles.teachers import with_teachers_found
from sskd.config.settings import MethodSettings, PretextSettings
from sskd.config.validation import from_dict
from sskd.config.yaml import override, read_yaml
from sskd.data.datasets.registry import DATASETS
from sskd.errors import UserError, unknown
from sskd.methods import METHODS
from sskd.networks import NETWORKS
from sskd.paths import CONFIGS, config_names
from sskd.pretext import PRETEXTS
from sskd.runs.plugins import load_plugin
from sskd.runs.settings import PretextField, check_recipe_names, method_settings

PROFILES = CONFIGS / "profiles"
PRESETS = CONFIGS / "presets.yaml"


def profile_path(name: str) -> Path:
    """Returns a profile's file by name or path. Raises UserError with the nearest name if there is none."""
    if name.endswith((".yaml", ".yml")):
        return Path(os.path.expanduser(name))
    path = PROFILES / f"{name}.yaml"
    if not os.path.isfile(path):  # unlike Path.is_file, False for a name that is too long
        raise unknown("profile", name, config_names("profiles"))
    return path


def read_profile(name: str, settings: list[str], plugins: Sequence[str] = ()) -> Profile:
    """Returns the profile with ``--set`` overrides applied and every name checked. Raises UserError for invalid
    content.

    plugins: imported together with the profile's own before names are checked.
    """
    path = profile_path(name)
    data = read_yaml(path)
    if not isinstance(data, dict):
        raise UserError(f"{path}: expected a mapping of keys to values")
    where = f"{path} with {' '.join(settings)}" if settings else str(path)
    data = with_teachers_found(_settings_win(override({"name": path.stem} | data, settings), settings))
    own = data.get("plugins") or []
    if isinstance(own, list):  # otherwise the validation rejects it
        data["plugins"] = list(dict.fromkeys(str(load_plugin(str(file))) for file in [*own, *plugins]))
    profile: Profile = from_dict(Profile, _with_named_settings(_with_preset(data)), where)
    check_names(profile)
    return profile


def _settings_win(data: dict[str, Any], settings: list[str]) -> dict[str, Any]:
    """Removes the benchmarks' overrides of keys that the command line sets, because --set applies to every
    benchmark."""
    for change in parts(data)[1:]:
        for setting in settings:
            *parents, last = setting.partition("=")[0].split(".")
            reduce(mapping, parents, change).pop(last, None)
    return data


def _with_preset(data: dict[str, Any]) -> dict[str, Any]:
    """Merges the profile into its preset (configs/presets.yaml); the profile's own settings take precedence."""
    name, presets = str(data.get("preset", "published_code")), read_yaml(PRESETS)
    if name not in presets:
        raise unknown("preset", name, presets)
    return merged(presets[name], data)


def _with_named_settings(data: dict[str, Any]) -> dict[str, Any]:
    """Merges `pretext_settings[NAME]` into the profile's `pretext`, and `method_settings[NAME]` into the methods of the
    comparison. Keys given with the task or method itself take precedence. Invalid input is left to the validation."""

    def full(kind: str, entry: Any) -> Any:
        own = {"name": entry} if isinstance(entry, str) else entry
        return mapping(mapping(data, kind), str(own.get("name"))) | own if isinstance(own, dict) else entry

    methods = data.get("methods", list(Profile.model_fields["methods"].default))
    data = data | {"pretext": full("pretext_settings", data.get("pretext", "contrastive"))}
    if isinstance(methods, list):
        data["methods"] = [full("method_settings", entry) for entry in methods]
    return data


_TASK: TypeAdapter[PretextSettings] = TypeAdapter(PretextField)


def pretext_settings(name: str, **settings: Any) -> PretextSettings:
    """Returns a task's settings: the given ones override the task's defaults. Raises UserError for invalid settings."""
    task: PretextSettings = from_dict(_TASK, {**settings, "name": name}, f"settings of the task '{name}'")
    PRETEXTS[name].view_transform(task)  # it may name a transformation
    return task


def check_names(profile: Profile) -> None:
    """Raises UserError for an unknown data set, network, weights entry or method setting, in the profile and in each
    benchmark's version of it."""
    for each in (profile, *map(profile.for_benchmark, profile.overrides)):
        _check_names(each)


def _check_names(profile: Profile) -> None:
    for dataset in (profile.dataset, *profile.probe.datasets):
        DATASETS[dataset.name]
    for recipe in (profile.recipe, profile.teacher_recipe, profile.head_recipe):
        check_recipe_names(recipe)
    for name, settings in profile.pretext_settings.items():
        _refuse_a_name("pretext_settings", name, settings)
        pretext_settings(name, **settings)
    PRETEXTS[profile.pretext.name].view_transform(profile.pretext)  # it may name a transformation
    for name, settings in profile.method_settings.items():
        _refuse_a_name("method_settings", name, settings)
        method_settings(name, **settings)
    for variants in (profile.methods, profile.also):
        _check_labels(variants)
    for name in profile.table_methods or ():
        METHODS[name]
    for name, changes in profile.method_recipes.items():
        METHODS[name]
        check_recipe_names(changed_recipe(profile.recipe, changes, f"method_recipes.{name}"))
    for name, changes in profile.head_recipes.items():
        PRETEXTS[name]
        check_recipe_names(changed_recipe(profile.head_recipe, changes, f"head_recipes.{name}"))
    for name, teacher in profile.teachers.items():
        if name != teacher.network:
            raise UserError(f"teachers.{name}: its network is '{teacher.network}', expected '{name}'")
    for network in (*profile.learning_rates, *profile.network_settings, *profile.teachers):
        NETWORKS[network]
    for pair in (profile.pair, *profile.pairs, *profile.pairs.values()):
        for network in split_pair(pair) if pair else ():
            NETWORKS[network]


def _check_labels(variants: Sequence[MethodSettings]) -> None:
    """Raises UserError for a label that is another method's title, and for two labels of the same settings."""
    titles = {METHODS[name].info.title: name for name in METHODS}
    for index, method in enumerate(variants):
        if titles.get(method.label, method.name) != method.name:
            raise UserError(f"methods: the label '{method.label}' is the title of '{titles[method.label]}'")
        for other in variants[:index]:
            if other.model_dump() == method.model_dump():
                raise UserError(
                    f"methods: '{method.label or method.name}' and '{other.label or other.name}' are one run"
                )


def _refuse_a_name(key: str, name: str, settings: dict[str, Any]) -> None:
    if "name" in settings:
        raise UserError(f"{key}.{name}.name is {settings['name']!r}: remove it, because the key is the name")
    if "label" in settings:
        raise UserError(f"{key}.{name}.label: set the label in an entry of 'methods' or 'also'")


def parse_method(text: str) -> Any:
    """Parses a method of the command line: "crd", "crd+kd" (CRD with KD at weight 1), "dkd+lskd" (DKD with standardised
    logits)."""
    name, *extras = text.split("+")
    additions: dict[str, dict[str, Any]] = {"kd": {"kd_weight": 1.0}}
    if "standardise" in METHODS[name].Settings.model_fields:
        additions["lskd"] = {"standardise": True}
    settings: dict[str, Any] = {"name": name}
    for extra in extras:
        if extra not in additions:
            known = " or ".join(f"'+{addition}'" for addition in additions)
            raise UserError(f"method '{text}': this method's name can only be followed by {known}")
        settings |= additions[extra]
    return settings
