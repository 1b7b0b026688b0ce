"""The batch of one training step."""

from typing import NamedTuple

import torch
from torch import Tensor

from sskd.runtime.distributed import Rank


class Batch(NamedTuple):
    """B images, each in V views.

    images: (V * B, 3, H, W) normalised floats; rows V * j to V * j + V - 1 are the views of image j, and the first of
    them is the normal view. labels: (B,) int64, from the split. indices: (B,) int64, indices into the training set of
    the split (0 to N - 1), not into the data set. view_labels: (V * B,) int64, the transformation of each row (rotation
    0 to 3, jigsaw permutation 0 to 23, ...), or None. generator: on the device of the images, seeded from the run's
    seed, the epoch and the step; methods draw from it. mixed_labels: (B, C) float32, the share of each class in each
    image, if images are mixed (sskd/data/mixing.py).
    """

    images: Tensor
    labels: Tensor
    indices: Tensor
    view_labels: Tensor | None
    generator: torch.Generator
    global_batch_size: int = 0  # images on all ranks; 0: this rank has all of them
    mixed_labels: Tensor | None = None

    @property
    def targets(self) -> Tensor:
        """Returns what cross-entropy takes: the mixed labels, or the labels."""
        return self.labels if self.mixed_labels is None else self.mixed_labels

    @property
    def views_per_image(self) -> int:
        """V, the number of views of each image."""
        return self.images.shape[0] // self.labels.shape[0]


class LoaderConfig(NamedTuple):
    """Device, memory layout and rank of the batches, and the workers that make them."""

    device: torch.device
    channels_last: bool = True
    rank: Rank = Rank()  # decides this process's rows of every batch
    workers: int | None = None  # processes that read image files; None: one per core, at most 16
