"""The batch that one training step sees."""

from typing import NamedTuple

import torch
from torch import Tensor

from sskd.runtime.distributed import Rank


class Batch(NamedTuple):
    """B images, each in V views.

    images: (V * B, 3, H, W), normalised floats; rows V * j to V * j + V - 1 are the views of image j, the first of
    them the normal one. labels: (B,) int64, as the split gives them. indices: (B,) int64, positions in the split's
    training set (0 to N - 1), not in the whole data set. view_labels: (V * B,) int64, which transformation made each
    row (rotation 0 to 3, jigsaw permutation 0 to 23, ...), or None. generator: on the images' device, seeded from the
    run's seed, the epoch and the step, for whatever a method draws. mixed_labels: (B, C) float32, the share of each
    class in each image, where images are mixed (sskd/data/mixing.py).
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
        """V."""
        return self.images.shape[0] // self.labels.shape[0]


class LoaderConfig(NamedTuple):
    """On which device batches are wanted, in which memory layout, and who makes them."""

    device: torch.device
    channels_last: bool = True
    rank: Rank = Rank()  # this process's part of every batch
    workers: int | None = None  # processes that read images from files; None: as many as there are cores
