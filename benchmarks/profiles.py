"""Profiles: how much of everything. A profile chooses data, networks, schedule and seeds; a benchmark the comparison."""

from pathlib import Path
from typing import Annotated, Any

from pydantic import Field

from sskd.config import (
    CONFIGS,
    DatasetSpec,
    Execution,
    Frozen,
    Listed,
    Method,
    Pretext,
    Pretrained,
    Recipe,
    SplitSpec,
    from_dict,
    override,
    read_yaml,
)
from sskd.data.datasets import DATASETS
from sskd.errors import UserError, unknown
from sskd.methods import METHODS
from sskd.networks import NETWORKS

PROFILES = CONFIGS / "profiles"


class Profile(Frozen):
    """A file of configs/profiles. Everything has the published recipe as its default."""

    name: str
    about: str  # what it is for, what it costs, what to expect
    dataset: DatasetSpec
    seeds: Annotated[tuple[int, ...], Listed] = (0, 1, 2)
    benchmarks: Annotated[tuple[str, ...], Listed] = ("comparison",)  # run where --only does not choose
    split: SplitSpec = SplitSpec()
    recipe: Recipe = Recipe()  # of students
    teacher_recipe: Recipe = Recipe()
    head_recipe: Recipe = Recipe(epochs=60, milestones=(30, 45), full_epochs=60)
    head_split: SplitSpec = SplitSpec()  # heads learn without labels, so few-shot and noise need not touch them
    learning_rates: dict[str, float] = {"MobileNetV2": 0.01, "ShuffleV1": 0.01, "ShuffleV2": 0.01}
    pretext: Pretext = Field(default="contrastive", validate_default=True)  # type: ignore[assignment]
    teachers: dict[str, Pretrained] = {}  # networks whose weights come from a file instead of a run
    pair: str = "resnet56/resnet20"  # teacher/student of the comparison
    pairs: dict[str, str] = {}  # the paper's pair: the pair that stands for it in this profile
    methods: Annotated[tuple[Method, ...], Listed] = Field(default=("none", "kd", "sskd"), validate_default=True)  # of the comparison
    execution: Execution = Execution()


def profile_path(name: str) -> Path:
    """A profile's file by name or path. UserError with the nearest name if there is none."""
    if name.endswith((".yaml", ".yml")):
        return Path(name)
    path = PROFILES / f"{name}.yaml"
    if not path.exists():
        raise unknown("profile", name, profile_names())
    return path


def profile_names() -> list[str]:
    return sorted(path.stem for path in PROFILES.glob("*.yaml"))


def read_profile(name: str, settings: list[str]) -> Profile:
    """The profile with ``--set`` overrides applied, every name in it checked. UserError for whatever is wrong."""
    path = profile_path(name)
    data = read_yaml(path)
    if not isinstance(data, dict):
        raise UserError(f"{path}: expected a mapping of keys to values")
    where = f"{path} with {' '.join(settings)}" if settings else str(path)
    profile: Profile = from_dict(Profile, override({"name": path.stem} | data, settings), where)
    check_names(profile)
    return profile


def check_names(profile: Profile) -> None:
    """UserError for a dataset, network or weights entry that does not exist."""
    DATASETS[profile.dataset.name]
    for pair in (profile.pair, *profile.pairs, *profile.pairs.values()):
        for network in split_pair(pair):
            NETWORKS[network]
    for name, teacher in profile.teachers.items():
        if name != teacher.network:
            raise UserError(f"teachers.{name}: the entry is for '{teacher.network}', not for '{name}'")


def split_pair(pair: str) -> tuple[str, str]:
    """ "teacher/student" to its two names."""
    teacher, slash, student = pair.partition("/")
    if not slash or not teacher or not student:
        raise UserError(f"'{pair}' is not a pair: write teacher/student, for example resnet56/resnet20")
    return teacher, student


def parse_method(text: str) -> Any:
    """A method as the command line names it: "crd", or "crd+kd" for CRD with KD at weight 1."""
    name, plus, extra = text.partition("+")
    METHODS[name]
    if plus and extra != "kd":
        raise UserError(f"method '{text}': only '+kd' can follow a method's name")
    return {"name": name, "kd_weight": 1.0} if plus else {"name": name}
