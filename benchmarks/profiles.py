"""Profiles: how much of everything. A profile chooses data, networks, schedule, seeds; a benchmark the comparison."""

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar

from pydantic import Field

from sskd.config import (
    DatasetSpec,
    Distinct,
    Execution,
    Fraction,
    Frozen,
    Listed,
    Method,
    PlainName,
    Positive,
    Pretext,
    PretextSettings,
    Pretrained,
    Rate,
    Recipe,
    SplitSpec,
    from_dict,
    method_settings,
    override,
    read_yaml,
)
from sskd.data.datasets import DATASETS
from sskd.errors import UserError, unknown
from sskd.methods import METHODS
from sskd.networks import NETWORKS
from sskd.places import CONFIGS, config_names
from sskd.plugins import load_plugin
from sskd.pretext import PRETEXTS

PROFILES = CONFIGS / "profiles"
PRESETS = CONFIGS / "presets.yaml"


class Override(Frozen):
    """What one benchmark has otherwise than its profile. Of nested settings only the keys that are given change."""

    dataset: DatasetSpec | None = None
    """Which images."""
    seeds: Annotated[tuple[int, ...] | None, Field(min_length=1), Listed, Distinct] = None
    """Of the students, in place of the profile's."""
    split: SplitSpec | None = None
    """Of students, over the profile's."""
    recipe: Recipe | None = None
    """Of students, over the profile's."""
    teacher_recipe: Recipe | None = None
    """Of teachers, over the profile's."""
    head_recipe: Recipe | None = None
    """Of heads, over the profile's."""
    head_recipes: dict[str, dict[str, Any]] | None = None
    """Of heads, by pretext task, over the profile's."""
    head_split: SplitSpec | None = None
    """Of heads, over the profile's."""
    teachers: dict[str, Pretrained] | None = None
    """Networks whose weights are given, beside the profile's."""
    pairs: dict[str, str] | None = None
    """What stands for the paper's pairs, beside the profile's."""
    method_settings: dict[str, dict[str, Any]] | None = None
    """By method, over the profile's."""
    method_recipes: dict[str, dict[str, Any]] | None = None
    """By method, over the profile's."""
    methods: Annotated[tuple[Method, ...] | None, Field(min_length=1), Listed, Distinct] = None
    """Of the comparison, in place of the profile's."""


class Profile(Frozen):
    """A file of configs/profiles. Everything has the published recipe as its default."""

    name: PlainName
    """Of the folder of its results; the file's name unless it says another."""
    about: str
    """What it is for, what it costs, what to expect."""
    dataset: DatasetSpec
    """Which images."""
    seeds: Annotated[tuple[int, ...], Field(min_length=1), Listed, Distinct] = (0, 1, 2)
    """Of the students: a run for each."""
    benchmarks: Annotated[tuple[str, ...], Field(min_length=1), Listed, Distinct] = ("comparison",)
    """The tables and figures that are run where --only does not choose."""
    split: SplitSpec = SplitSpec()
    """Which of the training images students have, with which labels. Teachers have all, with the right ones."""
    recipe: Recipe = Recipe()
    """How students are trained."""
    teacher_recipe: Recipe = Recipe()
    """How teachers are trained, where their weights are not given."""
    head_recipe: Recipe = Recipe(epochs=60, milestones=(30, 45), full_epochs=60)
    """How a pretext task's head is trained on its frozen teacher."""
    head_recipes: dict[str, dict[str, Any]] = {"hsakd": {"epochs": 100, "milestones": [30, 60, 90], "full_epochs": 100}}
    """By pretext task, over head_recipe: jigsaw: {epochs: 100}."""
    head_split: SplitSpec = SplitSpec()
    """Of heads, which learn without labels: few-shot and noise need not touch them."""
    learning_rates: dict[str, Positive] = {"MobileNetV2": 0.01, "ShuffleV1": 0.01, "ShuffleV2": 0.01}
    """By network, in place of the recipe's: the published recipe has these. Another optimizer may want {}."""
    preset: str = "published_code"
    """Settings of configs/presets.yaml, under this profile's own: what the published code or the paper's text
    has."""
    pretext: Pretext = Field(default="contrastive", validate_default=True)
    """The self-supervised task of SSKD's head."""
    pretext_settings: dict[str, dict[str, Any]] = {}
    """Of any task that is named, by its name: exemplar: {transformation: paper}."""
    teacher_epoch: Literal["best", "last"] = "best"
    """Whose weights teach, where a run trains the teacher."""
    teacher_seeds: bool = False
    """Whether each student seed has a teacher (where a run trains it) and a head of its own."""
    teachers: dict[str, Pretrained] = {}
    """Networks whose weights are given instead of trained, by network."""
    pair: str = "resnet56/resnet20"
    """teacher/student of the comparison."""
    pairs: dict[str, str] = {}
    """What stands in this profile for a pair of the paper: vgg13/vgg8: resnet14/resnet8."""
    methods: Annotated[tuple[Method, ...], Field(min_length=1), Listed, Distinct] = Field(
        default=("none", "kd", "sskd"), validate_default=True
    )
    """Of the comparison: names, or a name with settings."""
    also: Annotated[tuple[Method, ...], Listed, Distinct] = ()
    """Methods beside the paper's in figures 4a and 4b."""
    fractions: Annotated[tuple[Fraction, ...], Field(min_length=1), Listed, Distinct] = (
        0.25,
        0.5,
        0.75,
        1.0,
    )
    """Of every class's training images, in figure 4a."""
    equal_steps: bool = False
    """In figure 4a: smaller fractions have more epochs, so that all make as many steps."""
    noise_rates: Annotated[tuple[Rate, ...], Field(min_length=1), Listed, Distinct] = (
        0.0,
        0.1,
        0.3,
        0.5,
    )
    """Shares of wrong labels, in figure 4b."""
    step_costs: dict[str, Positive] = {}
    """A step's time by method, in any unit: for the benchmark equal_time."""
    method_settings: dict[str, dict[str, Any]] = {}
    """By method, over the published ones: ab: {initial_epochs: 1}."""
    method_recipes: dict[str, dict[str, Any]] = {}
    """By method, over the students' recipe: sskd: {weight_decay: 5.0e-4}."""
    overrides: dict[str, Override] = {}
    """What a benchmark has otherwise, by its name."""
    plugins: Annotated[tuple[str, ...], Listed] = ()
    """Python files that register methods, networks, data sets, optimizers, ..."""
    execution: Execution = Execution()
    """Where and how runs execute. Nothing of it enters their ids."""
    cluster: str = "inline"
    """Where runs execute unless --cluster says otherwise: a name of configs/clusters, or a file."""

    def for_benchmark(self, name: str) -> "Profile":
        """The profile as this benchmark has it. UserError where its changes do not fit the rest."""
        change = self.overrides.get(name)
        return _changed(self, change, f"overrides.{name}") if change else self


T = TypeVar("T", bound=Frozen)


def _changed(old: T, change: Frozen, where: str) -> T:
    """``old`` with what ``change`` sets, nested settings and mappings merged; validated as a whole, since two halves
    that are each allowed may not be so together."""
    changes: dict[str, Any] = {}
    for key in change.model_fields_set:
        before, value = getattr(old, key), getattr(change, key)
        if isinstance(value, Frozen) and isinstance(before, Frozen):
            value = _changed(before, value, f"{where}.{key}")
        elif isinstance(value, dict):
            value = merged(before, value)
        changes[key] = value
    kept = {key: getattr(old, key) for key in old.model_fields_set}
    result: T = from_dict(type(old), kept | changes, where)
    return result


def merged(under: dict[str, Any], over: dict[str, Any]) -> dict[str, Any]:
    """``over`` on ``under``: nested mappings key by key, everything else as a whole."""
    result = under | over
    for key in under.keys() & over.keys():
        if isinstance(under[key], dict) and isinstance(over[key], dict):
            result[key] = merged(under[key], over[key])
    return result


def profile_path(name: str) -> Path:
    """A profile's file by name or path. UserError with the nearest name if there is none."""
    if name.endswith((".yaml", ".yml")):
        return Path(name)
    path = PROFILES / f"{name}.yaml"
    if not os.path.isfile(path):  # unlike Path's, False for a name that is too long
        raise unknown("profile", name, profile_names())
    return path


def profile_names() -> list[str]:
    return config_names("profiles")


def read_profile(name: str, settings: list[str], plugins: Sequence[str] = ()) -> Profile:
    """The profile with ``--set`` overrides applied, every name in it checked. UserError for whatever is wrong.

    ``plugins`` are imported with the profile's own, before any name is looked up.
    """
    path = profile_path(name)
    data = read_yaml(path)
    if not isinstance(data, dict):
        raise UserError(f"{path}: expected a mapping of keys to values")
    where = f"{path} with {' '.join(settings)}" if settings else str(path)
    data = _settings_win(override({"name": path.stem} | data, settings), settings)
    own = data.get("plugins") or []
    if isinstance(own, list):  # else it is the validation's to refuse
        data["plugins"] = list(dict.fromkeys(str(load_plugin(str(file))) for file in [*own, *plugins]))
    data = _with_pretext_settings(_with_method_settings(_with_preset(data)))
    profile: Profile = from_dict(Profile, data, where)
    check_names(profile)
    return profile


def _settings_win(data: dict[str, Any], settings: list[str]) -> dict[str, Any]:
    """What the command line sets holds for every benchmark: no benchmark's override of the same key is left."""
    overrides = data.get("overrides")
    for change in overrides.values() if isinstance(overrides, dict) else ():
        for setting in settings:
            *parents, last = setting.partition("=")[0].split(".")
            target = change
            for parent in parents:
                target = target.get(parent) if isinstance(target, dict) else None
            if isinstance(target, dict):
                target.pop(last, None)
    return data


def _with_preset(data: dict[str, Any]) -> dict[str, Any]:
    """The profile's own settings over those of its preset (configs/presets.yaml)."""
    name, presets = str(data.get("preset", "published_code")), read_yaml(PRESETS)
    if name not in presets:
        raise unknown("preset", name, presets)
    return merged(presets[name], data)


def _with_pretext_settings(data: dict[str, Any]) -> dict[str, Any]:
    """The profile's task with the settings for tasks of its name under what is said of it there."""
    named, task = data.get("pretext_settings"), data.get("pretext", "contrastive")
    task = {"name": task} if isinstance(task, str) else task
    if not isinstance(named, dict) or not isinstance(task, dict):
        return data
    return data | {"pretext": _over_named(named, task)}


def _with_method_settings(data: dict[str, Any]) -> dict[str, Any]:
    """The comparison's methods with the profile's settings under what is said of each there."""
    named, methods = data.get("method_settings"), data.get("methods", list(Profile.model_fields["methods"].default))
    if not isinstance(named, dict) or not isinstance(methods, list):
        return data
    full = [{"name": entry} if isinstance(entry, str) else entry for entry in methods]
    return data | {"methods": [_over_named(named, entry) if isinstance(entry, dict) else entry for entry in full]}


def _over_named(named: dict[str, Any], entry: dict[str, Any]) -> dict[str, Any]:
    """An entry over the settings that are given to its name; where either is not what it should be, the entry as it
    is: the validation says what is wrong."""
    name = entry.get("name")
    settings = named.get(name) if isinstance(name, str) else None
    return settings | entry if isinstance(settings, dict) else entry


class _OneTask(Frozen):
    pretext: Pretext


def pretext_settings(name: str, **settings: Any) -> PretextSettings:
    """A task's settings: what is given, over the task's own. UserError names what is wrong."""
    task = from_dict(_OneTask, {"pretext": {**settings, "name": name}}, f"settings of the task '{name}'").pretext
    PRETEXTS[name].views(task)  # it may name a transformation
    return task


def check_names(profile: Profile) -> None:
    """UserError for a dataset, network, weights entry, benchmark or method's setting that does not exist, in the
    profile as it is and as each benchmark has it."""
    from benchmarks.base import BENCHMARKS  # here: base builds on this module

    for name in (*profile.benchmarks, *profile.overrides):
        BENCHMARKS[name]
    for each in (profile, *map(profile.for_benchmark, profile.overrides)):
        _check_names(each)


def _check_names(profile: Profile) -> None:
    DATASETS[profile.dataset.name]
    for name, settings in profile.pretext_settings.items():
        _refuse_a_name("pretext_settings", name, settings)
        pretext_settings(name, **settings)
    PRETEXTS[profile.pretext.name].views(profile.pretext)  # it may name a transformation
    for name, settings in profile.method_settings.items():
        _refuse_a_name("method_settings", name, settings)
        method_settings(name, **settings)
    for name, recipe in profile.method_recipes.items():
        METHODS[name]
        from_dict(Recipe, profile.recipe.model_dump() | recipe, f"method_recipes.{name}")
    for name, recipe in profile.head_recipes.items():
        PRETEXTS[name]
        from_dict(Recipe, profile.head_recipe.model_dump() | recipe, f"head_recipes.{name}")
    for name, teacher in profile.teachers.items():
        if name != teacher.network:
            raise UserError(f"teachers.{name}: the entry is for '{teacher.network}', not for '{name}'")
    for network in profile.learning_rates:
        NETWORKS[network]
    for pair in (profile.pair, *profile.pairs, *profile.pairs.values()):
        for network in split_pair(pair):
            NETWORKS[network]


def _refuse_a_name(key: str, name: str, settings: dict[str, Any]) -> None:
    if "name" in settings:
        raise UserError(f"{key}.{name}.name is {settings['name']!r}: leave it out, the key is the name")


def split_pair(pair: str) -> tuple[str, str]:
    """ "teacher/student" to its two names."""
    teacher, slash, student = pair.partition("/")
    if not slash or not teacher or not student:
        raise UserError(f"'{pair}' is not a pair: write teacher/student, for example resnet56/resnet20")
    return teacher, student


def parse_method(text: str) -> Any:
    """A method as the command line names it: "crd", "crd+kd" for CRD with KD at weight 1, "dkd+lskd" for DKD on
    standardised logits."""
    name, *extras = text.split("+")
    standardises = "standardise" in METHODS[name].Settings.model_fields
    additions: dict[str, dict[str, Any]] = {"kd": {"kd_weight": 1.0}}
    if standardises:
        additions["lskd"] = {"standardise": True}
    for extra in extras:
        if extra not in additions:
            known = " or ".join(f"'+{addition}'" for addition in additions)
            raise UserError(f"method '{text}': only {known} can follow this method's name")
    settings: dict[str, Any] = {"name": name}
    for extra in extras:
        settings |= additions[extra]
    return settings
