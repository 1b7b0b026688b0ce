"""Batches from a training set that is one uint8 tensor on the device; order, views and crops follow from the seed."""

from collections.abc import Iterator
from functools import cache
from typing import NamedTuple

import torch
from torch import Tensor

from sskd.data.augment import Augmentation
from sskd.data.batch import Batch, LoaderConfig
from sskd.data.views import ViewTransform
from sskd.errors import UserError
from sskd.runtime.seeding import generator, stream_seed

RGB = tuple[float, float, float]


class SamplingConfig(NamedTuple):
    """Sampling of batches. All random numbers come from the streams of ``seed`` whose names begin with ``stream``."""

    batch_size: int
    view_transform: ViewTransform
    augmentation: Augmentation
    seed: int = 0
    stream: str = "main"


def evaluation_sampling(view_transform: ViewTransform, batch_size: int, images: int) -> SamplingConfig:
    """Returns the sampling of test images: without augmentation, in batches of ``batch_size`` (or all images if
    there are fewer)."""
    return SamplingConfig(min(batch_size, images), view_transform, Augmentation(0, False), stream="head-evaluation")


def steps_per_epoch(images: int, batch_size: int, processes: int) -> int:
    """Returns the steps per epoch. The last, smaller batch counts unless it leaves a process with a single image
    (batch norm needs two). Raises UserError if there are too few images for one batch."""
    if batch_size > images:
        raise UserError(
            f"recipe.batch_size is {batch_size}, but the training set has {images} images: "
            "use a smaller batch or a larger split.fraction"
        )
    full, rest = divmod(images, batch_size)
    return full + (rest >= 2 * processes)


def epoch_order(images: int, seed: int, stream: str, epoch: int) -> Tensor:
    """Returns a random order of the images, (n,) int64. It is drawn on the CPU, so it is the same for every device."""
    return torch.randperm(images, generator=generator("cpu", seed, stream, "order", epoch))


class TrainLoader:
    """Batches of images in memory. Every step has its own random stream, so an epoch can be entered at any step."""

    def __init__(
        self, images: Tensor, labels: Tensor, mean: RGB, std: RGB, sampling: SamplingConfig, config: LoaderConfig
    ) -> None:
        """images: (n, 3, H, W) uint8. labels: (n,) int64. mean, std: per channel, of pixels / 255."""
        self.images, self.labels = images.to(config.device), labels.to(config.device)
        self.batch_size, self.view_transform, self.augmentation, self.seed, self.stream = sampling
        self.rank = config.rank
        self.normalise = Normalise(mean, std, config.device, config.channels_last)
        self.skipped: set[str] = set()  # always empty: the images are in memory
        self._steps = steps_per_epoch(len(images), sampling.batch_size, config.rank.world_size)

    def __len__(self) -> int:
        return self._steps

    def epoch(self, epoch: int, start: int = 0) -> Iterator[Batch]:
        """Yields the batches of an epoch, beginning with step ``start``; they do not depend on earlier batches."""
        draws = torch.Generator(device=self.images.device)
        for step, indices in self.order(epoch, start):
            yield self.make(indices, draws.manual_seed(self.step_seed(epoch, step)))

    def order(self, epoch: int, start: int = 0) -> Iterator[tuple[int, Tensor]]:
        """Yields the steps of an epoch from ``start`` on, each with the indices of its images (B,), on the device."""
        order = epoch_order(len(self.images), self.seed, self.stream, epoch).to(self.images.device)
        for step in range(start, len(self)):
            yield step, order[step * self.batch_size : (step + 1) * self.batch_size]

    def step_seed(self, epoch: int, step: int) -> int:
        """Returns the seed of the generator of a step."""
        return stream_seed(self.seed, self.stream, "step", epoch, step)

    def make(self, indices: Tensor, draws: torch.Generator) -> Batch:
        """Makes the batch of the images at ``indices`` (B,). It only does device work, in shapes that only depend on B,
        so a CUDA graph can capture it.

        With several processes, each makes the global batch with the same draws as a single process, and keeps its own
        rows.
        """
        images, view_labels = self.view_transform(self.images[indices], self.augmentation, draws)
        rows = self.rank.rows(len(indices))
        own = slice(rows.start * self.view_transform.views_per_image, rows.stop * self.view_transform.views_per_image)
        labels, view_labels = self.labels[indices[rows]], None if view_labels is None else view_labels[own]
        return Batch(self.normalise(images[own]), labels, indices[rows], view_labels, draws, len(indices))


@cache
def _scale_and_shift(mean: RGB, std: RGB, device: torch.device) -> tuple[Tensor, Tensor]:
    """Returns the factor and the offset of the normalisation, both (3,); cached per device."""
    scale, shift = 1 / torch.tensor(std) / 255, -torch.tensor(mean) / torch.tensor(std)
    return scale.to(device), shift.to(device)


class Normalise:
    """Maps pixels 0 to 255 to (pixel / 255 - mean) / std in float32, with one multiplication and one addition."""

    def __init__(self, mean: RGB, std: RGB, device: torch.device, channels_last: bool) -> None:
        self._scale, self._shift = _scale_and_shift(tuple(mean), tuple(std), device)
        self._of_rows: dict[int, tuple[Tensor, Tensor]] = {}  # by image width: shift and scale of a row
        self._layout = torch.channels_last if channels_last else torch.contiguous_format

    def __call__(self, images: Tensor) -> Tensor:
        """Normalises (B, 3, H, W) of any real dtype to float32."""
        floats = images.to(torch.float32, memory_format=self._layout, copy=True)
        if self._layout == torch.contiguous_format:
            return torch.addcmul(self._shift.view(3, 1, 1), floats, self._scale.view(3, 1, 1), out=floats)
        # row by row: three numbers are too few for the CPU's vector units
        width = floats.shape[3]
        rows = floats.permute(0, 2, 3, 1).flatten(0, 1).flatten(1)
        if width not in self._of_rows:
            self._of_rows[width] = self._shift.repeat(width), self._scale.repeat(width)
        shift, scale = self._of_rows[width]
        torch.addcmul(shift, rows, scale, out=rows)
        return floats


def eval_batches(
    images: Tensor, labels: Tensor, mean: RGB, std: RGB, batch_size: int, channels_last: bool
) -> Iterator[tuple[Tensor, Tensor]]:
    """Yields all images in order, normalised, without augmentation, with their labels, on the device of the images."""
    normalise = Normalise(mean, std, images.device, channels_last)
    for part, its_labels in zip(images.split(batch_size), labels.split(batch_size), strict=True):
        yield normalise(part), its_labels
