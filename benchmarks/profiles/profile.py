"""Profile of an experiment: data, networks, schedule and seeds. The benchmarks define what is compared."""

from typing import Annotated, Any, Literal

from pydantic import Field, model_validator

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
from sskd.errors import UserError, unknown
from sskd.runs.settings import MethodField, PretextField

ComparabilityField = Literal[
    "network", "teacher", "head", "split", "preprocessing", "batch", "epoch_rule", "precision", "version", "packages"
]
Waivers = dict[ComparabilityField, Annotated[str, Field(min_length=1)]]
RoundingField = Literal["head", "precision", "version", "packages"]  # of what differs, tables take it and say so
OVERRIDABLE = (
    *("dataset", "seeds", "split", "recipe", "teacher_recipe", "head_recipe", "head_recipes", "head_split"),
    *("teachers", "network_settings", "pairs", "method_settings", "method_recipes", "methods", "table_methods"),
    *("also", "teacher_seeds", "waivers"),
)  # keys that a benchmark's own settings can have


class Tuning(StrictModel):
    """Settings of ``run_all.py tune``. The numbers of trials and of studies are options of the command."""

    epochs: Epochs | None = None
    """Number of epochs of a trial; the schedule is scaled. null: the recipe's."""
    holdout: Annotated[float, Field(gt=0, lt=1)] = 0.2
    """Fraction of each class's training images that trials keep as a validation set."""


class Profile(StrictModel):
    """A file of configs/profiles. The defaults are the published recipe."""

    name: PlainName
    """Name of the results folder (default: the file's name)."""
    about: str
    """The purpose of the profile, its cost and what to expect."""
    dataset: DatasetSpec
    """Data set."""
    seeds: Annotated[tuple[int, ...], Field(min_length=1), TupleFromList, Distinct] = (0, 1, 2)
    """Seeds of the students, one run each."""
    benchmarks: Annotated[tuple[str, ...], Field(min_length=1), TupleFromList, Distinct] = ("comparison",)
    """Tables and figures that are run without --only."""
    split: SplitSpec = SplitSpec()
    """Training images and labels of the students. Teachers train on all images, with clean labels."""
    recipe: Recipe = Recipe()
    """Recipe of the students."""
    teacher_recipe: Recipe = Recipe()
    """Recipe of the teachers, unless their weights are given."""
    head_recipe: Recipe = Recipe(epochs=60, milestones=(30, 45), full_epochs=60)
    """Recipe of a pretext task's head, which is trained on the frozen teacher."""
    head_recipes: dict[str, dict[str, Any]] = {"hsakd": {"epochs": 100, "milestones": [30, 60, 90], "full_epochs": 100}}
    """Changes of head_recipe by pretext task: jigsaw: {epochs: 100}."""
    head_split: SplitSpec = SplitSpec()
    """Split of the heads. They learn without labels, so few-shot and noisy students can share one head."""
    learning_rates: dict[str, LearningRate] = {"MobileNetV2": 0.01, "ShuffleV1": 0.01, "ShuffleV2": 0.01}
    """Learning rates by network; they override the recipe's. The defaults are the published ones for SGD; other
    optimizers may need {}."""
    network_settings: dict[str, NetworkSettings] = {}
    """Settings by network, for teachers and students: timm:vit_tiny_patch16_224: {image_size: 64}."""
    preset: str = "published_code"
    """Settings of configs/presets.yaml, which the profile's own override: those of the published code or of the paper's
    text."""
    pretext: PretextField = Field(default="contrastive", validate_default=True)
    """The self-supervised task of SSKD's head."""
    pretext_settings: dict[str, dict[str, Any]] = {}
    """Settings by pretext task: exemplar: {transformation: paper}."""
    teacher_epoch: Literal["best", "last"] = "best"
    """Epoch whose weights teach, if a run trains the teacher."""
    teacher_seeds: bool = False
    """Train a teacher and a head per student seed; otherwise all seeds share one of each."""
    split_seeds: bool = False
    """Give each student seed its own subset of the images and its own wrong labels (seed: split.seed plus the
    student's)."""
    margin: Annotated[float, Field(ge=0, le=100)] = 0.5
    """Equivalence margin in points of accuracy: two methods are equivalent if the whole interval lies within it."""
    late_looks: bool = False
    """Add looks at 15 and 20 seeds to those at 3 to 10; the level per look is then multiplied by 0.94. Choose this
    before the first run."""
    teachers: dict[str, TeacherEntry] = {}
    """Teachers by network: given weights (weights: FILE, or a name of run_all.py list teachers such as crd:resnet56),
    or weights that training starts from (start: "timm:a1_in1k"). folder: DIR, where released files are searched."""
    pair: str = "resnet56/resnet20"
    """Pair teacher/student of the comparison."""
    pairs: dict[str, str | None] = {}
    """Replacements of published pairs: vgg13/vgg8: resnet14/resnet8. null: tables omit the pair, and claims say so."""
    methods: Annotated[tuple[MethodField, ...], Field(min_length=1), TupleFromList, Distinct] = Field(
        default=("none", "kd", "sskd"), validate_default=True
    )
    """Methods of the comparison: names, or mappings with a name and settings. Variants of one method need labels, which
    name their rows: [kd, {name: kd, kd_temperature: 2.0, label: KD at 2}]."""
    table_methods: Annotated[tuple[PlainName, ...] | None, TupleFromList, Distinct] = None
    """Methods of the paper's tables and figures that are run; null: all. Claims list the omitted ones."""
    also: Annotated[tuple[MethodField, ...], TupleFromList, Distinct] = ()
    """Additional methods in figures 4a and 4b."""
    fractions: Annotated[tuple[Fraction, ...], Field(min_length=1), TupleFromList, Distinct] = (
        0.25,
        0.5,
        0.75,
        1.0,
    )
    """Fractions of each class's training images in figure 4a."""
    equal_steps: bool = False
    """Train small fractions of figure 4a for more epochs, so that the number of steps is equal."""
    noise_rates: Annotated[tuple[Probability, ...], Field(min_length=1), TupleFromList, Distinct] = (
        0.0,
        0.1,
        0.3,
        0.5,
    )
    """Fractions of wrong labels in figure 4b."""
    step_costs: dict[str, Annotated[float, Field(ge=1e-6, le=1e6)]] = {}
    """Time per step by method, in any unit, for the benchmark equal_time."""
    probe: ProbeSettings = ProbeSettings()
    """Linear probes of the benchmark transfer."""
    method_settings: dict[str, dict[str, Any]] = {}
    """Settings per method; they override the published settings. Example: ab: {initial_epochs: 1}."""
    method_recipes: dict[str, dict[str, Any]] = {}
    """Changes of the students' recipe by method: sskd: {weight_decay: 5.0e-4}."""
    overrides: dict[str, dict[str, Any]] = {}
    """Settings by benchmark that differ from the profile: table5: {recipe: {epochs: 100}}. Of nested settings and
    mappings only the given keys change; other values are replaced."""
    waivers: Waivers = {}
    """Fields of the comparability card in which runs of a table may differ (network, teacher, head, split,
    preprocessing, batch, epoch_rule, precision, version, packages), each with a reason, which the report shows. batch:
    SSKD has four views of each image."""
    strict: Annotated[tuple[RoundingField, ...], TupleFromList, Distinct] = ()
    """Fields (head, precision, version, packages) whose differences exclude a run from a table. By default such
    differences are only shown, because they only change rounding or code."""
    tuning: Tuning = Tuning()
    """Length and validation set of the trials of ``run_all.py tune``."""
    plugins: Annotated[tuple[str, ...], TupleFromList] = ()
    """Python files that register methods, networks, data sets, optimizers, ..."""
    execution: Execution = Execution()
    """Device, threads, data folder and other settings of the machine. They are not part of run ids."""
    cluster: str = "inline"
    """Cluster on which runs execute without --cluster: a name in configs/clusters or a file."""

    @model_validator(mode="after")
    def _check_overrides(self) -> "Profile":
        for name in self.overrides:
            self.for_benchmark(name)
        return self

    def for_benchmark(self, name: str) -> "Profile":
        """Returns the profile with the overrides of this benchmark. Raises UserError if they do not fit the rest."""
        changes = self.overrides.get(name)
        if not changes:
            return self
        if others := changes.keys() - set(OVERRIDABLE):
            raise unknown(f"key of overrides.{name}", min(others), OVERRIDABLE)
        own = {key: getattr(self, key) for key in self.model_fields_set - {"overrides"}}
        for key, value in changes.items():
            before = getattr(self, key, None)
            if isinstance(before, StrictModel):  # only its given keys, so that the defaults follow from the whole
                before = before.model_dump(exclude_unset=True)
            own[key] = merged(before, value) if isinstance(before, dict) and isinstance(value, dict) else value
        changed: Profile = from_dict(Profile, own, f"overrides.{name}")
        return changed


def merged(under: dict[str, Any], over: dict[str, Any]) -> dict[str, Any]:
    """Merges ``over`` into ``under``: nested mappings by key, other values are replaced."""
    result = under | over
    for key in under.keys() & over.keys():
        if isinstance(under[key], dict) and isinstance(over[key], dict):
            result[key] = merged(under[key], over[key])
    return result


def mapping(data: Any, key: str) -> dict[str, Any]:
    """Returns the mapping under a key of data that is not validated yet; {} if there is none."""
    value = data.get(key) if isinstance(data, dict) else None
    return value if isinstance(value, dict) else {}


def parts(data: dict[str, Any]) -> list[dict[str, Any]]:
    """Returns a profile's data and that of its overrides."""
    return [data, *(change for change in mapping(data, "overrides").values() if isinstance(change, dict))]


def changed_recipe(recipe: Recipe, changes: dict[str, Any] | None, where: str) -> Recipe:
    """Returns the recipe with the changes. Raises UserError, which begins with ``where``, if they do not fit."""
    changed: Recipe = from_dict(Recipe, recipe.model_dump() | changes, where) if changes else recipe
    return changed


def split_pair(pair: str) -> tuple[str, str]:
    """Splits "teacher/student" into its two names."""
    teacher, slash, student = pair.partition("/")
    if not slash or not teacher or not student:
        raise UserError(f"'{pair}' is not a pair: write teacher/student, for example resnet56/resnet20")
    return teacher, student
