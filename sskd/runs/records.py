"""What a run's JSON files hold: the types that reports read them by, and that docs/results_format.md is made from.

Keys that are not named here may be anything. A field with a default may be absent: files of earlier versions lack
what was not noted yet.
"""

from collections.abc import Mapping
from typing import Annotated, Any

from pydantic import AllowInfNan, BaseModel, ConfigDict, Field

SCHEMA = 1  # of every file that is described here; results of before have no number
MayBeNan = Annotated[float, AllowInfNan(True)]


def shown_top1(row: Mapping[str, Any]) -> float | None:
    """Returns the accuracy of an epoch that displays show, in percent: on the held-out images where there are any, so
    that nobody chooses by the test images; None of an epoch that was not measured."""
    names = ("held_out_top1", "test_top1", "test_head_top1")
    return next((row[name] for name in names if name in row), None)


class Record(BaseModel):
    """Base of the types: strict, and tolerant of keys that nobody reads."""

    model_config = ConfigDict(strict=True, allow_inf_nan=False, use_attribute_docstrings=True)


class Epoch(Record):
    """An epoch's numbers in result.json."""

    epoch: int
    """From 1; 0 of a network that is given."""
    test_top1: float | None = None
    """Percent of the test images; not of heads."""
    test_top5: float | None = None
    """Percent of the test images."""
    test_loss: float | None = None
    """Mean cross-entropy of the test images."""
    test_ema_top1: float | None = None
    """Percent of the test images, of the moving average of the weights (recipe.ema); so are ema_top5 and ema_loss."""
    test_ema_top5: float | None = None
    """Percent of the test images."""
    test_ema_loss: float | None = None
    """Mean cross-entropy of the test images."""
    test_head_top1: float | None = None
    """Percent of the views of test images whose source a head names rightly."""
    test_images: int | None = None
    """How many test images."""
    held_out_top1: float | None = None
    """Percent of the held-out training images (split.holdout)."""


class ExecutedAs(Record):
    """The settings that round otherwise where they differ."""

    channels_last: bool
    """The memory layout of images and networks."""
    fold_teacher: bool
    """Whether the teacher's batch norms were folded into its convolutions."""
    compile: str
    """off, or torch.compile's mode."""


class Machine(Record):
    """Where a run was done, and with what code."""

    host: str | None = None
    """The machine's name."""
    device: str | None = None
    """The processor and its cores, or the GPU."""
    driver: str | None = None
    """Of the GPU."""
    cpu_capability: str | None = None
    """The vector instructions that torch used: AVX2, AVX512, ..."""
    threads: int | None = None
    """CPU threads."""
    python: str | None = None
    """Version."""
    torch: str | None = None
    """Version."""
    torchvision: str | None = None
    """Version."""
    packages: dict[str, str] | None = None
    """Versions of what the package needs, by name."""
    version: str | None = None
    """Of this package."""
    commit: str | None = None
    """Of the repository, where it ran from a clone."""
    dirty: bool | None = None
    """Whether the code differed from that commit."""


class MeasuredWith(Record):
    """What two runs must have in common to be compared: result.json's part of the comparability card."""

    network: str | None = None
    """sha256 of the network's graph and its parameters' shapes."""
    teacher: str | None = None
    """sha256 of the weights that taught."""
    head: str | None = None
    """sha256 of the head's weights."""
    split: str | None = None
    """sha256 of the training images' numbers and labels."""
    pixels: str | None = None
    """sha256 of the training and test images and the test labels; not of images that are read while training."""
    image_size: int | None = None
    """Pixels of a side that the network sees."""
    mean: list[float] | None = None
    """By channel, of pixels / 255: what images are normalised by."""
    std: list[float] | None = None
    """By channel, of pixels / 255."""
    execution: ExecutedAs | None = None
    """Settings of execution that round otherwise."""


class Result(Record):
    """result.json: a finished run's numbers and where they come from."""

    schema_version: Annotated[int, Field(alias="schema", le=SCHEMA)] = 0
    """The version of this description; 0 of files of before it, which have no such key."""
    id: str | None = None
    """The run's."""
    best: Epoch
    """The epoch that is best on the test images; of heads the last."""
    last: Epoch
    """The last epoch."""
    chosen: Epoch | None = None
    """The epoch that held-out training images chose, where there are any."""
    kl: MayBeNan | None = None
    """KL(teacher, student) of softened predictions on the test images, last epoch, in nats."""
    cka: MayBeNan | None = None
    """Linear CKA of student's and teacher's features, last epoch; NaN of features that are all equal."""
    seconds: float
    """Of training and evaluation."""
    images_per_second: float
    """Of training, in the last epoch."""
    parameters: int
    """Of the network that learned."""
    train_images: int
    """How many; 0 of a network that is given."""
    precision: str
    """Of forward and backward passes: fp32, bf16, fp16."""
    finished: str
    """When, ISO 8601."""
    machine: Machine = Machine()
    """Where and with what code."""
    measured_with: MeasuredWith = MeasuredWith()
    """What comparisons ask to be equal."""


class EpochRow(Record):
    """A line of metrics.jsonl: an epoch. Beside these: the loss terms (loss_<name>), what methods note, test_* as in
    result.json, held_out_* of held-out images."""

    stage: str
    """main, or the name of a stage before it."""
    epoch: int
    """Of the stage, from 1."""
    rate: float | None = None
    """The learning rate at the epoch's start."""
    loss: float | None = None
    """The mean objective."""
    test_top1: float | None = None
    """Percent of the test images."""
    seconds: float | None = None
    """Of training."""
    evaluation_seconds: float | None = None
    """Of measuring."""
    images_per_second: float | None = None
    """Of training."""
