"""The registry of data sets. A data set is in memory as uint8 tensors, or its images are read during training."""

import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cached_property, lru_cache
from pathlib import Path
from typing import NamedTuple, TypeAlias

import numpy as np
import torch
from torch import Tensor

from sskd.config.recipe import DatasetSpec
from sskd.data.batch import LoaderConfig
from sskd.data.file_dataset import ImageFiles
from sskd.data.file_loader import StreamLoader
from sskd.data.memory_loader import RGB, SamplingConfig, TrainLoader, eval_batches, evaluation_sampling
from sskd.data.splits import Split, Subset
from sskd.data.views import ViewTransform
from sskd.errors import UserError, described
from sskd.registry import Registry


@dataclass(frozen=True)
class ImageData:
    """A data set in memory. Images: (N, 3, H, H) uint8. Labels: (N,) int64, 0 to C - 1, without the noise of a split.
    mean and std: of the training images per channel (R, G, B), of pixels / 255. class_names: in the order of the
    labels."""

    name: str
    train_images: Tensor
    train_labels: Tensor
    test_images: Tensor
    test_labels: Tensor
    mean: RGB
    std: RGB
    class_names: tuple[str, ...]

    @property
    def num_classes(self) -> int:
        """C, the length of ``class_names``."""
        return len(self.class_names)

    @property
    def image_size(self) -> int:
        """Side (pixels) of the square images that networks see."""
        return self.train_images.shape[-1]

    def configured(self, spec: DatasetSpec) -> "ImageData":
        """Returns the data set with the settings of the spec. Raises UserError for a key that does not apply to it."""
        strange = [key for key in READ_WHILE_TRAINING if getattr(spec, key) != DatasetSpec.model_fields[key].default]
        if strange:
            raise UserError(
                f"dataset.{strange[0]} does not apply to '{spec.name}', whose images are in memory: remove it"
            )
        return self

    def train_loader(self, split: Split, sampling: SamplingConfig, config: LoaderConfig) -> TrainLoader:
        """Returns a loader of the split's training images."""
        return TrainLoader(self.train_images[split.indices], split.labels, self.mean, self.std, sampling, config)

    def test_loader(self, view_transform: ViewTransform, batch_size: int, config: LoaderConfig) -> TrainLoader:
        """Returns a loader of views of the test images, without augmentation. Use epoch 0: its random draws are
        always the same."""
        sampling = evaluation_sampling(view_transform, batch_size, len(self.test_labels))
        return TrainLoader(self.test_images, self.test_labels, self.mean, self.std, sampling, config)

    def test_batches(self, batch_size: int, config: LoaderConfig) -> Iterator[tuple[Tensor, Tensor]]:
        """Yields all test images in order (B, 3, H, H), normalised, with their labels (B,)."""
        return self._in_order(None, batch_size, config)

    def subset_batches(self, subset: Subset, batch_size: int, config: LoaderConfig) -> Iterator[tuple[Tensor, Tensor]]:
        """Yields training images as ``test_batches`` does: cropped as test images, without augmentation."""
        return self._in_order(subset, batch_size, config)

    def _in_order(
        self, subset: Subset | None, batch_size: int, config: LoaderConfig
    ) -> Iterator[tuple[Tensor, Tensor]]:
        images, labels = self._placed(subset, config.device)
        return eval_batches(images, labels, self.mean, self.std, batch_size, config.channels_last)

    @cached_property
    def _placed(self) -> Callable[[Subset | None, torch.device], tuple[Tensor, Tensor]]:
        """Function that returns the test images (None) or a subset of the training images, with their labels, on a
        device. They stay there for the next evaluation, and are freed with the data set."""
        train_images, test = self.train_images, (self.test_images, self.test_labels)  # without a reference to self

        @lru_cache(maxsize=2)  # the test images and the validation set of a run
        def placed(subset: Subset | None, device: torch.device) -> tuple[Tensor, Tensor]:
            images, labels = test if subset is None else (train_images[subset.indices], subset.labels)
            return images.to(device), labels.to(device)

        return placed


Data: TypeAlias = ImageData | ImageFiles
Loader: TypeAlias = TrainLoader | StreamLoader
# functions from (root, path of the spec or None) to the data set
DATASETS: Registry[Callable[[Path, str | None], Data]] = Registry("dataset", "sskd.data.datasets")
READ_WHILE_TRAINING = ("crop_size", "cache_size", "corrupt")  # keys of DatasetSpec for images that are not in memory


@lru_cache(maxsize=1)  # runs of a process share one copy
def load_dataset(spec: DatasetSpec, root: Path) -> Data:
    """Loads a data set by name. Raises UserError if it is unknown, missing or damaged."""
    source = DATASETS[spec.name]
    try:
        return source(root, spec.path).configured(spec)
    except UserError:
        raise
    except (Exception, SystemExit) as error:  # from the user's own code, or from any file
        raise UserError(f"the dataset '{spec.name}' cannot be read: {described(error)}") from None


class DatasetInfo(NamedTuple):
    """Sizes of a data set, for planning. labels: of the training images, (N,), or None if only the sizes are known."""

    train_images: int
    num_classes: int
    image_size: int
    labels: Tensor | None = None
    test_images: int = 0


class PublishedDataset(NamedTuple):
    """A published data set, whose sizes are known without its files (image_size 0: dataset.crop_size).
    ``local_path``: a file or folder under the root that is inspected if it exists, because it may differ.
    ``published_path``: the published files."""

    info: DatasetInfo
    local_path: str
    published_path: str


PUBLISHED_DATASETS: dict[str, PublishedDataset] = {}


def dataset_info(spec: DatasetSpec, root: Path) -> tuple[DatasetInfo, bool]:
    """Returns the sizes of a data set, and True if they are the published sizes because the images are not on this
    machine. Never downloads. Raises UserError if the data set is neither on disk nor published."""
    known = PUBLISHED_DATASETS.get(spec.name)
    own = Path(spec.path) if spec.path else root / known.local_path if known else root
    if known is None or os.path.exists(own):
        data = load_dataset(spec, root)
        return DatasetInfo(
            len(data.train_labels), data.num_classes, data.image_size, data.train_labels, len(data.test_labels)
        ), False
    size = known.info.image_size or spec.crop_size
    return known.info._replace(image_size=size), not os.path.exists(root / known.published_path)


def may_be_partial(spec: DatasetSpec) -> bool:
    """Returns True for a published data set that is a folder: it may hold only some of the images."""
    known = PUBLISHED_DATASETS.get(spec.name)
    return known is not None and known.local_path == known.published_path


def from_arrays(
    name: str,
    train: tuple[np.ndarray, np.ndarray],
    test: tuple[np.ndarray, np.ndarray],
    *,
    class_names: tuple[str, ...] | None = None,
    statistics: tuple[RGB, RGB] | None = None,
) -> ImageData:
    """Checks and converts the images, (N, H, H), (N, H, H, 1) or (N, H, H, 3) uint8, and labels, (N,) or (N, 1), of
    both sets.

    Grey images become three equal channels. ``statistics`` (mean, std) default to those of the training images. Raises
    UserError with the array and the problem.
    """
    images, test_images = _images(f"{name}: train_images", train[0]), _images(f"{name}: test_images", test[0])
    side, test_side = tuple(images.shape[1:]), tuple(test_images.shape[1:])
    if side != test_side:
        raise UserError(f"{name}: training images are {side}, test images {test_side}")
    labels = _labels(f"{name}: train_labels", train[1], len(images))
    test_labels = _labels(f"{name}: test_labels", test[1], len(test_images))
    both = torch.cat([labels, test_labels])
    lowest, highest = int(both.min()), int(both.max())
    classes = len(class_names) if class_names else highest + 1
    if not class_names and classes > len(both):
        raise UserError(f"{name}: a label is {classes - 1}, but there are only {len(both)} images; the first is 0")
    if lowest == 1 and highest == (len(class_names) if class_names else highest):
        raise UserError(f"{name}: labels are 1 to {highest}, expected 0 to {highest - 1}: subtract 1 from all of them")
    _refuse_out_of_range(f"{name}: train_labels", labels, classes)
    _refuse_out_of_range(f"{name}: test_labels", test_labels, classes)
    missing = set(range(classes)).difference(labels.tolist()) if not class_names else ()
    if missing:
        raise UserError(
            f"{name}: no training image has the label {min(missing)}, but labels go up to {highest}: number the "
            "classes without gaps, or give class_names for all of them"
        )
    mean, std = statistics or channel_statistics(images)
    names = class_names or tuple(str(number) for number in range(classes))
    return ImageData(name, images, labels, test_images, test_labels, mean, std, names)


def channel_statistics(images: Tensor) -> tuple[RGB, RGB]:
    """Returns the mean and standard deviation per channel of (N, 3, H, W) uint8, of pixels / 255; computed from
    exact counts."""
    values = torch.arange(256, dtype=torch.float64) / 255
    means, deviations = [], []
    for channel in range(3):
        counts = torch.bincount(images[:, channel].reshape(-1), minlength=256).double()
        mean = (counts @ values) / counts.sum()
        variance = (counts @ (values - mean) ** 2) / counts.sum()
        means.append(mean.item())
        deviations.append(max(variance.sqrt().item(), 1e-6))  # avoids a division by zero for a constant channel
    return (means[0], means[1], means[2]), (deviations[0], deviations[1], deviations[2])


def _images(what: str, array: np.ndarray) -> Tensor:
    if array.dtype != np.uint8:
        raise UserError(f"{what}: expected uint8 pixels (0 to 255), found {array.dtype}")
    if array.ndim == 3:
        array = array[..., None]
    if array.ndim != 4 or array.shape[3] not in (1, 3) or array.shape[1] != array.shape[2] or not array.size:
        raise UserError(f"{what}: expected square images (N, H, H), (N, H, H, 1) or (N, H, H, 3), found {array.shape}")
    tensor = torch.from_numpy(np.ascontiguousarray(array.transpose(0, 3, 1, 2)))
    return tensor.expand(-1, 3, -1, -1).contiguous()


def _labels(what: str, array: np.ndarray, count: int) -> Tensor:
    if not np.issubdtype(array.dtype, np.integer) or array.shape not in ((count,), (count, 1)):
        raise UserError(f"{what}: expected {count} integers, one per image, found {array.dtype} of shape {array.shape}")
    if array.dtype == np.uint64 and array.max() > np.iinfo(np.int64).max:
        raise UserError(f"{what}: label {array.max()} is out of range")
    return torch.from_numpy(array.reshape(-1).astype(np.int64))


def _refuse_out_of_range(what: str, labels: Tensor, classes: int) -> None:
    wrong = ((labels < 0) | (labels >= classes)).nonzero()
    if len(wrong):
        first = int(wrong[0])
        raise UserError(f"{what}: label {labels[first]} of image {first} is out of range; there are {classes} classes")
