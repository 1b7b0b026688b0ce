"""Fields of the comparability card: the parts of a run that must be equal where numbers are compared."""

from collections.abc import Mapping
from typing import Any, Literal, NamedTuple, get_args

from benchmarks.profiles.profile import CardField, SaidField
from sskd.config.recipe import SplitSpec
from sskd.runs.spec import FromRun, RunSpec, StudentSpec

COLUMN = "card "  # before a part's name in the report's frame
COMPUTING = ("torch", "torchvision", "numpy", "pillow")  # the packages that numbers come from


class Part(NamedTuple):
    """A part of a field. within: what else two runs must share, beside table, column and role, for the part to have to
    be equal. kind: what a difference changes. A table refuses a difference of the "question"; one of "rounding" (or
    code) it says of every run, unless the profile's ``strict`` asks to refuse it; one of the "place" it only counts."""

    field: str
    name: str
    within: tuple[str, ...] = ()
    kind: Literal["question", "rounding", "place"] = "question"

    @property
    def column(self) -> str:
        """Column of the report's frame."""
        return f"{COLUMN}{self.name}"


PARTS = (
    Part("network", "network", ("network",)),
    Part("teacher", "teacher"),
    Part("teacher", "teacher's weights"),
    Part("head", "head's weights", ("row",), "rounding"),  # of one spec: the same training on another machine
    Part("split", "split"),
    Part("split", "training images"),
    Part("preprocessing", "preprocessing"),
    Part("preprocessing", "pixels"),
    Part("preprocessing", "normalisation"),
    Part("batch", "batch per process"),
    Part("epoch_rule", "epochs reported"),
    Part("precision", "precision", kind="rounding"),
    Part("version", "version of the suite", kind="rounding"),
    *(Part("packages", name, kind="rounding") for name in COMPUTING),
    Part("commit", "commit", kind="place"),
    Part("machine", "device", kind="place"),
)
assert {part.field for part in PARTS if part.kind != "place"} == set(get_args(CardField))
assert {part.field for part in PARTS if part.kind == "rounding"} == set(get_args(SaidField))
OF_EACH_SEED = ("teacher", "head")  # fields that a profile with teacher_seeds has otherwise for every seed


def card_columns(spec: RunSpec, result: Mapping[str, Any]) -> dict[str, str | None]:
    """Returns every part's value of a finished run in words, None where it is not recorded, "" where it means
    nothing."""
    known, machine = _mapping(result.get("measured_with")), _mapping(result.get("machine"))
    packages = {"torch": machine.get("torch"), "torchvision": machine.get("torchvision")}
    packages |= _mapping(machine.get("packages"))
    recipe, split, data = spec.recipe, spec.split, spec.dataset
    size = f"{known['image_size']} pixels, " if known.get("image_size") else ""
    values = {
        "network": known.get("network"),
        "teacher": _teacher(spec),
        "teacher's weights": known.get("teacher"),
        "head's weights": known.get("head"),
        "split": f"{split.fraction:g} of every class, {split.noise:g} wrong labels, {split.holdout:g} held out, seed "
        f"{split.seed}{_from_files(split)}",
        "training images": known.get("split"),
        "preprocessing": f"{data.name}, {recipe.augmentation}, padding {recipe.crop_padding}, "
        f"{'flipped' if recipe.flip else 'not flipped'}",
        "pixels": known.get("pixels"),
        "normalisation": f"{size}mean {known['mean']}, sd {known['std']}" if known.get("mean") else None,
        "batch per process": f"{recipe.batch_size // recipe.processes} (of {recipe.batch_size})",
        "epochs reported": ("chosen on held-out images, " if split.holdout else "") + "last, best on test images",
        "precision": result.get("precision"),
        "version of the suite": _public(machine.get("version")),
        "commit": machine.get("commit"),
        "device": machine.get("device"),
        **{name: _public(packages.get(name)) for name in COMPUTING},
    }
    student = spec if isinstance(spec, StudentSpec) else None
    if student is None or student.teacher is None:
        values |= dict.fromkeys(("teacher", "teacher's weights"), "")
    if student is None or student.head is None:
        values |= {"head's weights": ""}
    return {part.column: None if (value := values[part.name]) is None else str(value) for part in PARTS}


def _from_files(split: SplitSpec) -> str:
    given = {"labels": split.labels, "images": split.indices}
    return "".join(f", {what} of the file {file.sha256[:12]}" for what, file in given.items() if file)


def _teacher(spec: RunSpec) -> str | None:
    """Who teaches, as the spec has it; None for nobody, or a file that is known by its path alone."""
    if isinstance(spec.teacher, FromRun):
        return f"{spec.teacher.run.id}, {spec.teacher.epoch} epoch"
    if spec.teacher is None:
        return None
    return spec.teacher.weights if spec.teacher.published else spec.teacher.sha256


def _public(version: Any) -> str | None:
    """Returns a version without its local suffix: torch's CPU wheel ("2.14.1+cpu") and its CUDA wheels are one
    version."""
    return None if version is None else str(version).partition("+")[0]


def _mapping(value: Any) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}
