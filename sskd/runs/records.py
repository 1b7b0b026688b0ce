"""Schemas of a run's JSON files: reports validate the files with them, and docs/results_format.md is generated from
them.

Other keys are allowed. A field with a default may be missing, because files of earlier versions lack it.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

from pydantic import AllowInfNan, BaseModel, ConfigDict, Field

from sskd.config.validation import from_dict
from sskd.errors import UserError
from sskd.runs.files import one_line, read_json

SCHEMA = 1  # version of all files described here; older results have no number
MayBeNan = Annotated[float, AllowInfNan(True)]


def shown_top1(row: Mapping[str, Any]) -> float | None:
    """Returns the accuracy (%) that displays show for an epoch: on the validation set if there is one, so that users
    do not select by test accuracy; None for an epoch that was not evaluated."""
    names = ("held_out_top1", "test_top1", "test_head_top1")
    return next((row[name] for name in names if name in row), None)


class Record(BaseModel):
    """Base class of the schemas: strict types, other keys allowed."""

    model_config = ConfigDict(strict=True, allow_inf_nan=False, use_attribute_docstrings=True)


class Epoch(Record):
    """The measurements after an epoch, in result.json."""

    epoch: int
    """Number of the epoch, from 1; 0 for given weights."""
    test_top1: float | None = None
    """Top-1 accuracy on the test images (%); for heads only if a network learns with them (HSAKD*)."""
    test_top5: float | None = None
    """Top-5 accuracy on the test images (%)."""
    test_loss: float | None = None
    """Mean cross-entropy on the test images."""
    test_ema_top1: float | None = None
    """Top-1 accuracy of the moving average of the weights (recipe.ema) on the test images (%)."""
    test_ema_top5: float | None = None
    """Top-5 accuracy of the moving average of the weights on the test images (%)."""
    test_ema_loss: float | None = None
    """Mean cross-entropy of the moving average of the weights on the test images."""
    test_head_top1: float | None = None
    """Accuracy of a head on its pretext task, on views of the test images (%)."""
    test_images: int | None = None
    """Number of test images."""
    held_out_top1: float | None = None
    """Top-1 accuracy on the validation set (split.holdout) (%)."""


class ExecutedAs(Record):
    """The execution settings that affect rounding."""

    channels_last: bool
    """True if images and networks were in the channels-last memory layout."""
    fold_teacher: bool
    """True if the teacher's batch norms were folded into its convolutions."""
    compile: str
    """Mode of torch.compile, or off."""


class Machine(Record):
    """Machine and code of a run."""

    host: str | None = None
    """Host name of the machine."""
    device: str | None = None
    """Processor with its number of cores, or GPU."""
    driver: str | None = None
    """Version of the GPU driver."""
    cpu_capability: str | None = None
    """Vector instructions that PyTorch used: AVX2, AVX512, ..."""
    threads: int | None = None
    """Number of CPU threads."""
    python: str | None = None
    """Version of Python."""
    torch: str | None = None
    """Version of PyTorch."""
    torchvision: str | None = None
    """Version of torchvision."""
    packages: dict[str, str] | None = None
    """Versions of the dependencies, by name."""
    version: str | None = None
    """Version of this package."""
    commit: str | None = None
    """Commit of the repository, if the code ran from a clone."""
    dirty: bool | None = None
    """True if the code differed from that commit."""


class MeasuredWith(Record):
    """The part of the comparability card in result.json: two runs are compared if these are equal."""

    network: str | None = None
    """sha256 of the network's graph and of the shapes of its parameters."""
    teacher: str | None = None
    """sha256 of the teacher's weights."""
    head: str | None = None
    """sha256 of the head's weights."""
    split: str | None = None
    """sha256 of the indices and labels of the training images."""
    pixels: str | None = None
    """sha256 of the training images, test images and test labels; missing if images are read during training."""
    image_size: int | None = None
    """Side (pixels) of the images that the network sees."""
    mean: list[float] | None = None
    """Per-channel mean that images are normalised with, of pixels / 255."""
    std: list[float] | None = None
    """Per-channel standard deviation that images are normalised with, of pixels / 255."""
    execution: ExecutedAs | None = None
    """Execution settings that affect rounding."""


class Result(Record):
    """result.json: the measurements of a finished run, and their provenance."""

    schema_version: Annotated[int, Field(alias="schema", le=SCHEMA)] = 0
    """Version of this format; 0 for older files, which do not have this key."""
    id: str | None = None
    """Id of the run."""
    best: Epoch
    """The epoch with the best accuracy on the test images; for heads, the last epoch."""
    last: Epoch
    """The last epoch."""
    chosen: Epoch | None = None
    """The epoch with the best accuracy on the validation set, if there is one."""
    kl: MayBeNan | None = None
    """KL(teacher || student) of softened predictions on the test images in the last epoch, in nats."""
    cka: MayBeNan | None = None
    """Linear CKA between the student's and the teacher's features in the last epoch; NaN if all features are equal."""
    seconds: float
    """Duration of training and evaluation, in seconds."""
    images_per_second: float
    """Training speed in the last epoch, in images per second."""
    parameters: int
    """Number of parameters of the trained network."""
    train_images: int
    """Number of training images; 0 for given weights."""
    precision: str
    """Precision of forward and backward passes: fp32, bf16 or fp16."""
    finished: str
    """Time when the run finished, ISO 8601."""
    machine: Machine = Machine()
    """Machine and code."""
    measured_with: MeasuredWith = MeasuredWith()
    """The comparability card: values that comparisons require to be equal."""


class EpochRow(Record):
    """A line of metrics.jsonl: an epoch. Further keys are the loss terms (loss_<name>), values logged by methods,
    test_* as in result.json, and held_out_* for the validation set."""

    stage: str
    """main, or the name of an initial stage."""
    epoch: int
    """Number of the epoch in its stage, from 1."""
    rate: float | None = None
    """Learning rate at the beginning of the epoch."""
    loss: float | None = None
    """Mean of the total loss."""
    test_top1: float | None = None
    """Top-1 accuracy on the test images (%)."""
    seconds: float | None = None
    """Training time, in seconds."""
    evaluation_seconds: float | None = None
    """Evaluation time, in seconds."""
    images_per_second: float | None = None
    """Training speed, in images per second."""


def read_result(path: Path, role: str) -> dict[str, Any]:
    """Returns a validated result.json. Raises UserError with the file, the problem, and what to do."""
    result = read_json(path)
    version = result.get("schema") if isinstance(result, dict) else 0
    if isinstance(version, int) and version > SCHEMA:
        raise UserError(f"{path} has format version {version}, but this suite reads up to {SCHEMA}: update the suite")
    try:
        checked: Result = from_dict(Result, result, path.name)
        if role != "head" and None in (checked.best.test_top1, checked.last.test_top1):
            raise UserError("test_top1 is missing")
    except UserError as error:
        raise UserError(f"cannot read {path}: {one_line(error)}; delete it to rerun the run") from None
    return dict(result)
