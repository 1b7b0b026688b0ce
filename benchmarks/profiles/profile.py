"""A profile: how much of everything. It chooses data, networks, schedule and seeds; a benchmark the comparison."""

from typing import Annotated, Any, Literal, TypeVar

from pydantic import Field

from sskd.config.execution import Execution
from sskd.config.fields import (
    Distinct,
    Epochs,
    Fraction,
    LearningRate,
    PlainName,
    Probability,
    StrictModel,
    TupleFromList,
)
from sskd.config.networks import NetworkSettings
from sskd.config.pretrained import TeacherEntry
from sskd.config.probe import ProbeSettings
from sskd.config.recipe import DatasetSpec, Recipe, SplitSpec
from sskd.config.validation import from_dict
from sskd.errors import UserError
from sskd.runs.settings import MethodField, PretextField

ComparabilityField = Literal[
    "network", "teacher", "head", "split", "preprocessing", "batch", "epoch_rule", "precision", "version", "packages"
]
Waivers = dict[ComparabilityField, Annotated[str, Field(min_length=1)]]
RoundingField = Literal["head", "precision", "version", "packages"]  # of what differs, tables take it and say so


class Override(StrictModel):
    """The settings that differ from the profile for one benchmark. Of nested settings only the given keys change."""

    dataset: DatasetSpec | None = None
    """Data set, in place of the profile's."""
    seeds: Annotated[tuple[int, ...] | None, Field(min_length=1), TupleFromList, Distinct] = None
    """Seeds of the students, in place of the profile's."""
    split: SplitSpec | None = None
    """Split of the students, over the profile's."""
    recipe: Recipe | None = None
    """Recipe of the students, over the profile's."""
    teacher_recipe: Recipe | None = None
    """Recipe of the teachers, over the profile's."""
    head_recipe: Recipe | None = None
    """Recipe of the heads, over the profile's."""
    head_recipes: dict[str, dict[str, Any]] | None = None
    """Recipes of the heads by pretext task, over the profile's."""
    head_split: SplitSpec | None = None
    """Split of the heads, over the profile's."""
    teachers: dict[str, TeacherEntry] | None = None
    """Networks whose weights are given, or are where training starts, beside the profile's."""
    network_settings: dict[str, NetworkSettings] | None = None
    """Settings of networks by name, over the profile's."""
    pairs: dict[str, str | None] | None = None
    """Pairs that stand for the paper's, beside the profile's."""
    method_settings: dict[str, dict[str, Any]] | None = None
    """Settings of methods by name, over the profile's."""
    method_recipes: dict[str, dict[str, Any]] | None = None
    """Changes of the recipe by method, over the profile's."""
    methods: Annotated[tuple[MethodField, ...] | None, Field(min_length=1), TupleFromList, Distinct] = None
    """Methods of the comparison, in place of the profile's."""
    table_methods: Annotated[tuple[PlainName, ...] | None, TupleFromList, Distinct] = None
    """Methods of the paper's tables and figures, in place of the profile's."""
    also: Annotated[tuple[MethodField, ...] | None, TupleFromList, Distinct] = None
    """Methods beside the paper's in figures 4a and 4b, in place of the profile's."""
    teacher_seeds: bool | None = None
    """A teacher and a head for each student seed, in place of the profile's."""
    waivers: Waivers | None = None
    """Beside the profile's."""


class Tuning(StrictModel):
    """How ``run_all.py tune`` searches. Number of trials and of studies are options of the command."""

    epochs: Epochs | None = None
    """Epochs of a trial, its schedule scaled; null: those of the recipe."""
    holdout: Annotated[float, Field(gt=0, lt=1)] = 0.2
    """Fraction of each class's training images on which trials are scored, and not trained."""


class Profile(StrictModel):
    """A file of configs/profiles. Everything has the published recipe as its default."""

    name: PlainName
    """Name of the folder of its results; the file's name unless it says another."""
    about: str
    """The purpose of the profile, its cost and what to expect."""
    dataset: DatasetSpec
    """Data set."""
    seeds: Annotated[tuple[int, ...], Field(min_length=1), TupleFromList, Distinct] = (0, 1, 2)
    """Seeds of the students: one run for each."""
    benchmarks: Annotated[tuple[str, ...], Field(min_length=1), TupleFromList, Distinct] = ("comparison",)
    """The tables and figures that are run where --only does not choose."""
    split: SplitSpec = SplitSpec()
    """The training images and labels of the students. Teachers train on all images, with the right labels."""
    recipe: Recipe = Recipe()
    """Recipe of the students."""
    teacher_recipe: Recipe = Recipe()
    """Recipe of the teachers, unless their weights are given."""
    head_recipe: Recipe = Recipe(epochs=60, milestones=(30, 45), full_epochs=60)
    """Recipe of a pretext task's head, which is trained on its frozen teacher."""
    head_recipes: dict[str, dict[str, Any]] = {"hsakd": {"epochs": 100, "milestones": [30, 60, 90], "full_epochs": 100}}
    """Changes of head_recipe by pretext task: jigsaw: {epochs: 100}."""
    head_split: SplitSpec = SplitSpec()
    """Split of the heads. They learn without labels, so few-shot and noisy students can share one head."""
    learning_rates: dict[str, LearningRate] = {"MobileNetV2": 0.01, "ShuffleV1": 0.01, "ShuffleV2": 0.01}
    """Learning rates by network, in place of the recipe's. These are the published ones for SGD; other optimizers may
    need {}."""
    network_settings: dict[str, NetworkSettings] = {}
    """Settings by network, for teachers and students: timm:vit_tiny_patch16_224: {image_size: 64}."""
    preset: str = "published_code"
    """Settings of configs/presets.yaml, under this profile's own: what the published code or the paper's text
    has."""
    pretext: PretextField = Field(default="contrastive", validate_default=True)
    """The self-supervised task of SSKD's head."""
    pretext_settings: dict[str, dict[str, Any]] = {}
    """Settings by pretext task: exemplar: {transformation: paper}."""
    teacher_epoch: Literal["best", "last"] = "best"
    """Whose weights teach, where a run trains the teacher."""
    teacher_seeds: bool = False
    """Train a teacher and a head for each student seed; otherwise all seeds share one of each."""
    split_seeds: bool = False
    """Give each student seed its own subset of the images and its own wrong labels, by split.seed plus the seed."""
    margin: Annotated[float, Field(ge=0, le=100)] = 0.5
    """Points of accuracy within which the whole interval of two equivalent methods lies."""
    late_looks: bool = False
    """Look at 15 and 20 seeds too, beside 3 to 10: every look then has 0.94 of its level. To be chosen before the first
    run."""
    teachers: dict[str, TeacherEntry] = {}
    """Teachers by network: weights that are given instead of trained (weights: FILE, or crd:resnet56 as run_all.py list
    teachers names it), or that training starts from (start: "timm:a1_in1k"). folder: DIR finds released files there."""
    pair: str = "resnet56/resnet20"
    """teacher/student of the comparison."""
    pairs: dict[str, str | None] = {}
    """Pairs that stand for the paper's in this profile: vgg13/vgg8: resnet14/resnet8. null: the tables leave that pair
    out, and the claims say so."""
    methods: Annotated[tuple[MethodField, ...], Field(min_length=1), TupleFromList, Distinct] = Field(
        default=("none", "kd", "sskd"), validate_default=True
    )
    """Methods of the comparison: names, or a name with settings. Two variants of one method have labels, which name
    their rows: [kd, {name: kd, kd_temperature: 2.0, label: KD at 2}]."""
    table_methods: Annotated[tuple[PlainName, ...] | None, TupleFromList, Distinct] = None
    """Restricts the methods of the paper's tables and figures to these; null: all. Claims then say what was left
    out."""
    also: Annotated[tuple[MethodField, ...], TupleFromList, Distinct] = ()
    """Methods beside the paper's in figures 4a and 4b."""
    fractions: Annotated[tuple[Fraction, ...], Field(min_length=1), TupleFromList, Distinct] = (
        0.25,
        0.5,
        0.75,
        1.0,
    )
    """Fractions of each class's training images, in figure 4a."""
    equal_steps: bool = False
    """In figure 4a: smaller fractions have more epochs, so that all make as many steps."""
    noise_rates: Annotated[tuple[Probability, ...], Field(min_length=1), TupleFromList, Distinct] = (
        0.0,
        0.1,
        0.3,
        0.5,
    )
    """Shares of wrong labels, in figure 4b."""
    step_costs: dict[str, Annotated[float, Field(ge=1e-6, le=1e6)]] = {}
    """A step's time by method, in any unit: for the benchmark equal_time."""
    probe: ProbeSettings = ProbeSettings()
    """The linear probes of the benchmark transfer."""
    method_settings: dict[str, dict[str, Any]] = {}
    """Settings by method, over the published ones: ab: {initial_epochs: 1}."""
    method_recipes: dict[str, dict[str, Any]] = {}
    """Changes of the students' recipe by method: sskd: {weight_decay: 5.0e-4}."""
    overrides: dict[str, Override] = {}
    """Settings that differ from the profile, by benchmark."""
    waivers: Waivers = {}
    """Fields in which compared runs of a table may differ: a field of the comparability card (network,
    teacher, head, split, preprocessing, batch, epoch_rule, precision, version, packages), and why. The report shows
    both. batch: SSKD has four views of each image."""
    strict: Annotated[tuple[RoundingField, ...], TupleFromList, Distinct] = ()
    """Fields of the comparability card (head, precision, version, packages) whose differences a table refuses, although
    they change rounding or code and not the question. Without it the table takes such runs and says what differs."""
    tuning: Tuning = Tuning()
    """Length and held-out images of the trials of ``run_all.py tune``."""
    plugins: Annotated[tuple[str, ...], TupleFromList] = ()
    """Python files that register methods, networks, data sets, optimizers, ..."""
    execution: Execution = Execution()
    """Device, threads, data folder and other settings of the machine. They do not enter the ids of runs."""
    cluster: str = "inline"
    """The cluster that runs execute on unless --cluster names another: a name of configs/clusters, or a file."""

    def for_benchmark(self, name: str) -> "Profile":
        """The profile as this benchmark has it. UserError where its changes do not fit the rest."""
        change = self.overrides.get(name)
        return _changed(self, change, f"overrides.{name}") if change else self


T = TypeVar("T", bound=StrictModel)


def _changed(old: T, change: StrictModel, where: str) -> T:
    """``old`` with what ``change`` sets, nested settings and mappings merged; validated as a whole, since two halves
    that are each allowed may not be so together."""
    changes: dict[str, Any] = {}
    for key in change.model_fields_set:
        before, value = getattr(old, key), getattr(change, key)
        if isinstance(value, StrictModel) and isinstance(before, StrictModel):
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


def split_pair(pair: str) -> tuple[str, str]:
    """ "teacher/student" to its two names."""
    teacher, slash, student = pair.partition("/")
    if not slash or not teacher or not student:
        raise UserError(f"'{pair}' is not a pair: write teacher/student, for example resnet56/resnet20")
    return teacher, student
