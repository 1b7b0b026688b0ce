"""Items of the comparability card: properties of a run that must be equal if numbers are compared."""

from collections.abc import Mapping
from typing import Any, Literal, NamedTuple, get_args

from benchmarks.profiles.profile import ComparabilityField, RoundingField
from sskd.config.recipe import SplitSpec
from sskd.runs.spec import FromRun, RunSpec, StudentSpec

COLUMN = "card "  # prefix of an item's name in the report's frame
COMPUTING = ("torch", "torchvision", "numpy", "pillow")  # packages that affect the results


class ComparabilityItem(NamedTuple):
    """A property of a run that is compared within a table. Several items can belong to one field of the profile.

    within: columns of the frame that two runs must share (besides table, column and role) for the item to be compared.
    kind: the consequence of a difference. "question": the run is excluded from the table. "rounding": the table shows
    the difference, or excludes the run if the profile's ``strict`` names the field. "environment": only counted.
    """

    field: str
    name: str
    within: tuple[str, ...] = ()
    kind: Literal["question", "rounding", "environment"] = "question"

    @property
    def column(self) -> str:
        """Column of the report's frame."""
        return f"{COLUMN}{self.name}"


ITEMS = (
    ComparabilityItem("network", "network", ("network",)),
    ComparabilityItem("teacher", "teacher"),
    ComparabilityItem("teacher", "teacher's weights"),
    ComparabilityItem("head", "head's weights", ("row",), "rounding"),  # same spec, trained on another machine
    ComparabilityItem("split", "split"),
    ComparabilityItem("split", "training images"),
    ComparabilityItem("preprocessing", "preprocessing"),
    ComparabilityItem("preprocessing", "pixels"),
    ComparabilityItem("preprocessing", "normalisation"),
    ComparabilityItem("batch", "batch per process"),
    ComparabilityItem("epoch_rule", "epochs reported"),
    ComparabilityItem("precision", "precision", kind="rounding"),
    ComparabilityItem("version", "version of the suite", kind="rounding"),
    *(ComparabilityItem("packages", name, kind="rounding") for name in COMPUTING),
    ComparabilityItem("commit", "commit", kind="environment"),
    ComparabilityItem("machine", "device", kind="environment"),
)
assert {part.field for part in ITEMS if part.kind != "environment"} == set(get_args(ComparabilityField))
assert {part.field for part in ITEMS if part.kind == "rounding"} == set(get_args(RoundingField))
PER_SEED = ("teacher", "head")  # fields that differ between seeds with teacher_seeds


def comparability_columns(spec: RunSpec, result: Mapping[str, Any]) -> dict[str, str | None]:
    """Returns the value of every item of a finished run: None if it is not recorded, "" if it does not apply."""
    known, machine = result.get("measured_with", {}), result.get("machine", {})
    packages = {"torch": machine.get("torch"), "torchvision": machine.get("torchvision")}
    packages |= machine.get("packages") or {}
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
        "epochs reported": ("chosen on validation images, " if split.holdout else "") + "last, best on test images",
        "precision": result.get("precision"),
        "version of the suite": _public(machine.get("version")),
        "commit": machine.get("commit"),
        "device": machine.get("device"),
        **{name: _public(packages.get(name)) for name in COMPUTING},
    }
    if not (isinstance(spec, StudentSpec) and spec.teacher):
        values |= dict.fromkeys(("teacher", "teacher's weights"), "")
    if not (isinstance(spec, StudentSpec) and spec.head):
        values |= {"head's weights": ""}
    return {part.column: None if (value := values[part.name]) is None else str(value) for part in ITEMS}


def _from_files(split: SplitSpec) -> str:
    given = {"labels": split.labels, "images": split.indices}
    return "".join(f", {what} of the file {file.sha256[:12]}" for what, file in given.items() if file)


def _teacher(spec: RunSpec) -> str | None:
    """Returns the teacher as the spec gives it; None without a teacher, or for a file without sha256."""
    if isinstance(spec.teacher, FromRun):
        return f"{spec.teacher.run.id}, {spec.teacher.epoch} epoch"
    if spec.teacher is None:
        return None
    return spec.teacher.weights if spec.teacher.published else spec.teacher.sha256


def _public(version: Any) -> str | None:
    """Returns a version without its local suffix: torch's CPU wheel ("2.14.1+cpu") and CUDA wheels count as one
    version."""
    return None if version is None else str(version).partition("+")[0]
