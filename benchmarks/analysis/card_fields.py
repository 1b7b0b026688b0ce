"""What the comparability card knows of a run: by field, the parts that must be equal where numbers are compared."""

from collections.abc import Mapping
from typing import Any, NamedTuple, get_args

from benchmarks.profiles.profile import CardField
from sskd.runs.spec import RunSpec, StudentSpec, Trained

COLUMN = "card "  # before a part's name in the report's frame
COMPUTING = ("torch", "torchvision", "numpy", "pillow")  # the packages that numbers come from


class Part(NamedTuple):
    """A part of a field. within: what else two runs must share, beside table, column and role, for the part to have to
    be equal; refuses: whether a table refuses what differs, or only says so."""

    field: str
    name: str
    within: tuple[str, ...] = ()
    refuses: bool = True

    @property
    def column(self) -> str:
        """Of the report's frame."""
        return f"{COLUMN}{self.name}"


PARTS = (
    Part("network", "network", ("network",)),
    Part("teacher", "teacher"),
    Part("teacher", "teacher's weights"),
    Part("head", "head's weights", ("row",)),
    Part("split", "split"),
    Part("split", "training images"),
    Part("preprocessing", "preprocessing"),
    Part("preprocessing", "pixels"),
    Part("preprocessing", "normalisation"),
    Part("batch", "batch per process"),
    Part("epoch_rule", "epochs reported"),
    Part("precision", "precision"),
    Part("version", "version of the suite"),
    *(Part("packages", name) for name in COMPUTING),
    Part("commit", "commit", refuses=False),
    Part("machine", "device", refuses=False),
)
assert {part.field for part in PARTS if part.refuses} == set(get_args(CardField))
OF_EACH_SEED = ("teacher", "head")  # fields that a profile with teacher_seeds has otherwise for every seed


def card_columns(spec: RunSpec, result: Mapping[str, Any]) -> dict[str, str | None]:
    """Of a finished run: every part's value in words, None where it is not recorded, "" where it means nothing."""
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
        f"{split.seed}",
        "training images": known.get("split"),
        "preprocessing": f"{data.name}, {recipe.augmentation}, padding {recipe.crop_padding}, "
        f"{'flipped' if recipe.flip else 'not flipped'}",
        "pixels": known.get("pixels"),
        "normalisation": f"{size}mean {known['mean']}, sd {known['std']}" if known.get("mean") else None,
        "batch per process": f"{recipe.batch_size // recipe.processes} (of {recipe.batch_size})",
        "epochs reported": ("chosen on held-out images, " if split.holdout else "") + "last, best on test images",
        "precision": result.get("precision"),
        "version of the suite": machine.get("version"),
        "commit": machine.get("commit"),
        "device": machine.get("device"),
        **{name: packages.get(name) for name in COMPUTING},
    }
    student = spec if isinstance(spec, StudentSpec) else None
    if student is None or student.teacher is None:
        values |= dict.fromkeys(("teacher", "teacher's weights"), "")
    if student is None or student.head is None:
        values |= {"head's weights": ""}
    return {part.column: None if (value := values[part.name]) is None else str(value) for part in PARTS}


def _teacher(spec: RunSpec) -> str | None:
    """Who teaches, as the spec has it; None for nobody, or a file that is known by its path alone."""
    if isinstance(spec.teacher, Trained):
        return f"{spec.teacher.run.id}, {spec.teacher.epoch} epoch"
    if spec.teacher is None:
        return None
    return spec.teacher.weights if spec.teacher.published else spec.teacher.sha256


def _mapping(value: Any) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}
