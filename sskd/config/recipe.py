"""Data set, split, and training recipe of a run."""

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
    """The data set, and how its images are read."""

    name: PlainName
    """Name of the data set (run_all.py list datasets)."""
    path: FilePath | None = None
    """File or folder of the images, for the kinds npz, folder and imagenet."""
    crop_size: Pixels = 224
    """Side (pixels) of the crops that networks see. Only for data sets that are read during training (imagenet)."""
    cache_size: Pixels | None = None
    """Cache decoded images on disk, as centre crops with this side (pixels). Only for data sets that are read during
    training. null: no cache."""
    corrupt: Literal["error", "skip"] = "error"
    """Handling of images that cannot be decoded. skip: use the next readable image instead, and count it. error: the
    run fails. Only for data sets that are read during training."""


class NumberFile(StrictModel):
    """A file of whole numbers, one per image or for some images. A run's id depends on its content, not on its path."""

    file: FilePath
    """.npy, .npz, .txt, .csv, .json, .pt or .pth (docs/your_own.md)."""
    key: str | None = None
    """Name of the list to use, if the file holds several."""
    sha256: str
    """sha256 of the file, which is checked. It is computed when the setting is first read."""

    @model_validator(mode="before")
    @classmethod
    def _with_its_hash(cls, data: Any) -> Any:
        if isinstance(data, dict) and isinstance(data.get("file"), str) and data.get("sha256") is None:
            try:
                file = Path(data["file"]).expanduser()
                if file.exists() and not file.is_file():
                    raise UserError(f"{file} is not a file")
                return data | {"file": str(file), "sha256": hashlib.sha256(file.read_bytes()).hexdigest()}
            except (OSError, RuntimeError, ValueError) as error:
                raise UserError(f"cannot read {data['file']}: {getattr(error, 'strerror', None) or error}") from None
        return data


FromPath = BeforeValidator(lambda value: {"file": value} if isinstance(value, str) else value)


class SplitSpec(StrictModel):
    """The training images and labels of a run. A split only depends on its own seed, so all methods with this seed
    get the same images and labels."""

    fraction: Fraction = 1.0
    """Fraction of each class's training images that is used (the paper's few-shot settings)."""
    noise: Probability = 0.0
    """Fraction of the training labels that is changed, each to one of the other classes with equal probability."""
    seed: int = 0
    """Random seed of the split: it decides the subset, the wrong labels and the validation images. Use the same
    value in all runs that you compare."""
    holdout: Annotated[float, Field(ge=0, lt=1)] = 0.0
    """Fraction of each class's training images (after `fraction`) that is kept as a validation set. The model is not
    trained on it; the epoch with the best validation accuracy is reported as "chosen"."""
    labels: Annotated[NumberFile | None, FromPath] = None
    """A file with a label for every training image, in the order of the data set. It replaces the labels of the data
    set, for example by noisy labels from human annotators (CIFAR-N)."""
    indices: Annotated[NumberFile | None, FromPath] = None
    """A file with the indices (from 0) of the training images to use. `fraction` is then a fraction of these."""


# Keys that only apply to one built-in optimiser or augmentation: with another built-in one they raise an error. One of
# the user's own may use any key.
OPTIONS: dict[str, dict[str, tuple[str, ...]]] = {
    "optimizer": {"sgd": ("momentum", "nesterov"), "adamw": ("betas",)},
    "augmentation": {"cutout": ("cutout_size",), "standard": (), "none": (), "strong": ()},
}


class Recipe(StrictModel):
    """Optimiser, schedule, augmentation, batch size and precision. The defaults are those of CRD's CIFAR-100
    benchmark."""

    removed = {"loss_over": "batch"}

    epochs: Epochs = 240
    """Number of epochs."""
    batch_size: Annotated[int, Field(ge=2, le=1_000_000)] = 64
    """Images per step, over all processes; views are not counted."""
    learning_rate: LearningRate = 0.05
    """Base learning rate, which the schedule multiplies by a factor. A method's initial stage uses it unchanged,
    unless the stage has its own."""
    milestones: Annotated[tuple[Epochs, ...], TupleFromList] = (150, 180, 210)
    """Epochs of the full schedule (see full_epochs) after which the learning rate is multiplied by decay. Schedules
    other than `step` ignore it."""
    full_epochs: Epochs = 240
    """Length of the full schedule that `milestones` refer to. Each milestone is multiplied by epochs / full_epochs
    and rounded to a whole epoch, so a shorter run decays the learning rate at the same fractions of its length.
    Schedules other than `step` ignore it; the warm-ups of methods (warmup_epochs, CTKD's rising_epochs) use it with
    every schedule."""
    decay: Annotated[float, Field(gt=0, le=10)] = 0.1
    """Factor of the learning rate at each milestone. Schedules other than `step` ignore it."""
    momentum: Probability = 0.9
    """SGD's momentum coefficient. Only for the optimizer `sgd`."""
    weight_decay: Annotated[float, Field(ge=0, le=100)] = 5e-4
    """Weight decay of all trained parameters: part of the gradient in SGD, decoupled in AdamW."""
    crop_padding: Annotated[int, Field(ge=0, le=4096)] = 4
    """Padding (black pixels) on each side of an image before the random crop; 0: no crop. Ignored for image files
    (imagenet), which get random resized crops, and by the augmentation `none`."""
    flip: bool = True
    """Flip images horizontally with probability 0.5. Ignored by the augmentation `none`."""
    optimizer: str = "sgd"
    """Name of the optimiser: sgd, adamw, or one of your own (docs/training.md)."""
    nesterov: bool = False
    """Use Nesterov momentum. Only for the optimizer `sgd`."""
    betas: Annotated[tuple[Decay, Decay], TupleFromList] = (0.9, 0.999)
    """AdamW's (beta1, beta2): decay rates of the running averages of the gradient and of its square. Only for the
    optimizer `adamw`."""
    schedule: str = "step"
    """Name of the learning-rate schedule: step, cosine, one-cycle, or one of your own (docs/training.md)."""
    warmup_epochs: Annotated[float, Field(ge=0)] = 0.0
    """Length of the linear warm-up of the learning rate from 0, in epochs of this run (may be fractional)."""
    augmentation: str = "standard"
    """Name of the augmentation of training images: standard (crop and flip), none, cutout, strong, or one of your
    own."""
    cutout_size: Annotated[int, Field(gt=0, le=4096)] = 8
    """Side (pixels) of the cutout square. DeVries and Taylor use 8 for CIFAR-100 and 16 for CIFAR-10. Only for the
    augmentation `cutout`."""
    label_smoothing: Decay = 0.0
    """Label smoothing of the cross-entropy: the fraction of each label that is spread evenly over all classes."""
    mixup: Annotated[float, Field(ge=0, le=100)] = 0.0
    """Alpha of mixup (Zhang et al., ICLR 2018), which blends pairs of images and their labels with weights from
    Beta(alpha, alpha). 0: no mixup."""
    cutmix: Annotated[float, Field(ge=0, le=100)] = 0.0
    """Alpha of CutMix (Yun et al., ICCV 2019), which pastes a box of another image into each image and mixes the
    labels by its area; the area is drawn from Beta(alpha, alpha). 0: no CutMix. If mixup is also set, each batch
    uses one of the two with equal probability."""
    ema: Decay = 0.0
    """Decay per step of an exponential moving average of the network's weights and buffers, which is evaluated in
    addition to the network (ema_top1). 0.999 averages about 1,000 steps. 0: no average."""
    precision: Literal["auto", "fp32", "bf16", "fp16"] = "auto"
    """Precision of forward and backward passes; weights and losses are float32. auto: bf16 if the hardware supports
    it, else fp32."""
    processes: Annotated[int, Field(gt=0, le=1024)] = 1
    """Number of data-parallel processes that share every batch. Losses are computed on the global batch; batch norm
    uses the part of each process."""

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
            raise ValueError(f"warmup_epochs ({self.warmup_epochs:g}) must be smaller than epochs ({self.epochs})")
        if self.nesterov and self.momentum == 0:
            raise ValueError("nesterov needs a momentum above 0")
        for choice, owners in OPTIONS.items():
            chosen = getattr(self, choice)
            for owner, keys in owners.items():
                for key in keys if chosen in owners and chosen != owner else ():
                    if getattr(self, key) != type(self).model_fields[key].default:
                        raise ValueError(
                            f"{key} only applies to {choice} '{owner}', but {choice} is '{chosen}': remove {key}"
                        )
        return self
