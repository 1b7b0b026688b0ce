"""From a batch of raw images to its views: the transformations of the pretext tasks, and plain training."""

from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from sskd.data.augment import Augmentation, random_crop, random_flip
from sskd.runtime.device import cached_repeat


class ViewTransform(Protocol):
    """Makes V views of each image. Rows V * j to V * j + V - 1 are those of image j, the first its normal view."""

    @property
    def views_per_image(self) -> int:
        """V."""

    def __call__(
        self, images: Tensor, augmentation: Augmentation, generator: torch.Generator
    ) -> tuple[Tensor, Tensor | None]:
        """images: (B, 3, H, W) uint8. Returns (V * B, 3, H, W), pixels 0 to 255, and ``Batch.view_labels``: (V * B,)
        int64, or None where the views are not numbered."""


@dataclass(frozen=True)
class SingleView:
    """One view, as in ordinary training: crop, then flip (the published order)."""

    views_per_image = 1

    def __call__(
        self, images: Tensor, augmentation: Augmentation, generator: torch.Generator
    ) -> tuple[Tensor, Tensor | None]:
        images = random_crop(images, augmentation.padding, generator)
        if augmentation.flip:
            images = random_flip(images, generator)
        return augmentation.transform(images, generator), None


@dataclass(frozen=True)
class Rotations:
    """Four views: 0, 90, 180, 270 degrees counter-clockwise. Flip, rotate, then each view its own crop (as SSKD)."""

    views_per_image = 4

    def __call__(
        self, images: Tensor, augmentation: Augmentation, generator: torch.Generator
    ) -> tuple[Tensor, Tensor | None]:
        if augmentation.flip:
            images = random_flip(images, generator)
        views = rotations(images)
        labels = cached_repeat(4, len(images), images.device)
        views = random_crop(views, augmentation.padding, generator)
        return augmentation.transform(views, generator), labels


@dataclass(frozen=True)
class Rotated:
    """Four views: one crop and flip as in ordinary training, turned by 0, 90, 180 and 270 degrees (as HSAKD)."""

    views_per_image = 4

    def __call__(
        self, images: Tensor, augmentation: Augmentation, generator: torch.Generator
    ) -> tuple[Tensor, Tensor | None]:
        images, _ = SingleView()(images, augmentation, generator)
        return rotations(images), cached_repeat(4, len(images), images.device)


def rotations(images: Tensor) -> Tensor:
    """(B, 3, S, S), turned by 0, 90, 180 and 270 degrees counter-clockwise: (4 * B, 3, S, S) in channels-last, the
    layout that networks want."""
    last = images.permute(0, 2, 3, 1)
    return torch.stack([last.rot90(turn, (1, 2)) for turn in range(4)], dim=1).flatten(0, 1).permute(0, 3, 1, 2)
