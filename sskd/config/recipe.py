"""Which images, which of them, and how a network is trained on them."""

import hashlib
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field, model_validator

from sskd.config.fields import (
    Decay,
    Epochs,
    FilePath,
    Fraction,
    LearningRate,
    Pixels,
    PlainName,
    Probability,
    StrictModel,
    TupleFromList,
)
from sskd.errors import UserError


class DatasetSpec(StrictModel):
    """Which images."""

    name: PlainName
    """Which data set: run_all.py list datasets names them."""
    path: FilePath | None = None
    """The file or folder of the kinds that are the user's own: npz, folder, imagenet."""
    crop_size: Pixels = 224
    """Of images that are read while training (imagenet): pixels of a side that networks see."""
    cache_size: Pixels | None = None
    """Of images that are read while training: keep the decoded middle square, its side this many pixels. null: keep
    none."""
    corrupt: Literal["error", "skip"] = "error"
    """Of images that are read while training. skip: the next readable image takes the place of one that cannot be
    decoded, and it is counted. error: the run fails."""


class NumberFile(StrictModel):
    """A file of whole numbers, one for each image or of some of them. A run's id follows its content, not its path."""

    file: FilePath
    """.npy, .npz, .txt, .csv, .json, .pt or .pth (docs/your_own.md)."""
    key: str | None = None
    """Of a file that holds several lists: the name of the one that is meant."""
    sha256: str
    """The hash of the file, which is checked. It is taken when the setting is first read."""

    @model_validator(mode="before")
    @classmethod
    def _with_its_hash(cls, data: Any) -> Any:
        if isinstance(data, dict) and isinstance(data.get("file"), str) and data.get("sha256") is None:
            try:
                file = Path(data["file"]).expanduser()
                if file.exists() and not file.is_file():
                    raise UserError(f"{file} is no file")
                return data | {"file": str(file), "sha256": hashlib.sha256(file.read_bytes()).hexdigest()}
            except (OSError, RuntimeError, ValueError) as error:
                raise UserError(f"cannot read {data['file']}: {getattr(error, 'strerror', None) or error}") from None
        return data


FromPath = BeforeValidator(lambda value: {"file": value} if isinstance(value, str) else value)


class SplitSpec(StrictModel):
    """Which training images, with which labels. The same for every method that names the same split seed."""

    fraction: Fraction = 1.0
    """The share of every class's training images that is used: the few-shot settings of the paper."""
    noise: Probability = 0.0
    """The share of training labels that is changed, each to one of the other classes with equal probability."""
    seed: int = 0
    """Of the choice of images and of wrong labels. Runs that are compared have the same."""
    holdout: Annotated[float, Field(ge=0, lt=1)] = 0.0
    """The share of every class's part that is held out: not trained on, it chooses the epoch."""
    labels: Annotated[NumberFile | None, FromPath] = None
    """A file with a label for every training image, in the data set's order, in place of its own: wrong labels that
    people gave (CIFAR-N) or another's code made."""
    indices: Annotated[NumberFile | None, FromPath] = None
    """A file with the numbers, from 0, of the training images that are used; a fraction is then a share of these."""


# Keys that belong to one built-in optimiser or augmentation, and are refused with another built-in one. A user's own
# may read any key, so none is refused there.
OPTIONS: dict[str, dict[str, tuple[str, ...]]] = {
    "optimizer": {"sgd": ("momentum", "nesterov"), "adamw": ("betas",)},
    "augmentation": {"cutout": ("cutout_size",), "standard": (), "none": (), "strong": ()},
}


class Recipe(StrictModel):
    """Optimiser, schedule, augmentation, batch and precision. Defaults: CRD's CIFAR-100 benchmark."""

    removed = {"loss_over": "batch"}  # of several processes: the loss is of the whole batch

    epochs: Epochs = 240
    """How often every training image is seen."""
    batch_size: Annotated[int, Field(ge=2, le=1_000_000)] = 64
    """Images of a step, over all processes. Methods see this many, however many views each image has."""
    learning_rate: LearningRate = 0.05
    """The rate that the schedule's factors multiply. A method's initial stage has it throughout."""
    milestones: Annotated[tuple[Epochs, ...], TupleFromList] = (150, 180, 210)
    """Of the schedule step, and left aside by others: epochs of the full schedule after which the rate falls."""
    full_epochs: Epochs = 240
    """The number of epochs that the milestones are meant for. They scale with epochs / full_epochs, rounded to
    whole epochs, so that a shorter run falls at the same shares of its length. Other schedules leave it aside."""
    decay: Annotated[float, Field(gt=0, le=10)] = 0.1
    """Of the schedule step, and left aside by others: what the rate is multiplied by at each milestone."""
    momentum: Probability = 0.9
    """Of the optimizer sgd: what stays of the last update in the next."""
    weight_decay: Annotated[float, Field(ge=0, le=100)] = 5e-4
    """Of all trained parameters. In sgd it is a part of the gradient, in adamw it is decoupled."""
    crop_padding: Annotated[int, Field(ge=0, le=4096)] = 4
    """Black pixels on each side of an image, out of which a random crop of its size is cut; 0: no crops. Image
    files (imagenet) have random resized crops instead, and the augmentation none has neither."""
    flip: bool = True
    """Whether half of the images are mirrored left to right. The augmentation none leaves it aside."""
    optimizer: str = "sgd"
    """sgd, adamw, or the name of one of your own (docs/training.md)."""
    nesterov: bool = False
    """Of the optimizer sgd: Nesterov's momentum."""
    betas: Annotated[tuple[Decay, Decay], TupleFromList] = (0.9, 0.999)
    """Of the optimizer adamw: by what its averages of gradients and of their squares decay in every step."""
    schedule: str = "step"
    """step, cosine, one-cycle, or the name of one of your own: how the learning rate changes (docs/training.md)."""
    warmup_epochs: Annotated[float, Field(ge=0)] = 0.0
    """The rate first rises linearly from 0, for this many epochs (0.5: half of one) of those that there are."""
    augmentation: str = "standard"
    """standard (crop and flip), none, cutout, strong, or the name of one of your own: how training images are
    disturbed."""
    cutout_size: Annotated[int, Field(gt=0, le=4096)] = 8
    """Of the augmentation cutout: pixels of the square's side. DeVries and Taylor have 8 for CIFAR-100, 16 for
    CIFAR-10."""
    label_smoothing: Decay = 0.0
    """The share of every label that cross-entropy spreads evenly over all classes."""
    mixup: Annotated[float, Field(ge=0, le=100)] = 0.0
    """Blends the images of a batch in pairs, and their labels (Zhang et al., ICLR 2018): the alpha of the weight's
    distribution Beta(alpha, alpha). 0: no mixup."""
    cutmix: Annotated[float, Field(ge=0, le=100)] = 0.0
    """Pastes a box of another image into each image, and mixes their labels by its area (Yun et al., ICCV 2019): the
    alpha of Beta(alpha, alpha). 0: no CutMix. With mixup too each batch has one of the two, with equal probability."""
    ema: Decay = 0.0
    """Decay per step of an exponential moving average of the network's weights and buffers, which is measured beside
    the network (ema_top1): 0.999 averages some 1,000 steps. 0: no average."""
    precision: Literal["auto", "fp32", "bf16", "fp16"] = "auto"
    """Of forward and backward passes; weights and losses are float32. auto: bf16 where the hardware has it, else
    fp32."""
    processes: Annotated[int, Field(gt=0, le=1024)] = 1
    """How many processes share every batch. Losses are of the whole batch; batch norm is of each process's own
    part."""

    @model_validator(mode="after")
    def _every_process_has_two_images(self) -> "Recipe":
        if self.batch_size < 2 * self.processes:
            raise ValueError(
                f"batch_size {self.batch_size} is too small for {self.processes} processes: two images each"
            )
        return self

    @model_validator(mode="after")
    def _choices_fit(self) -> "Recipe":
        if self.warmup_epochs and self.warmup_epochs >= self.epochs:
            raise ValueError(f"warmup_epochs {self.warmup_epochs:g} leaves none of {self.epochs} epochs for the rest")
        if self.nesterov and self.momentum == 0:
            raise ValueError("nesterov needs a momentum")
        for choice, owners in OPTIONS.items():
            chosen = getattr(self, choice)
            for owner, keys in owners.items():
                for key in keys if chosen in owners and chosen != owner else ():
                    if getattr(self, key) != type(self).model_fields[key].default:
                        raise ValueError(f"{key} is of the {choice} '{owner}', not of '{chosen}': leave it out")
        return self
