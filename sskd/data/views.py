"""View transforms: make the views of a batch of images, for pretext tasks and for plain training."""

from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from sskd.data.augment import Augmentation, random_crop, random_flip
from sskd.runtime.device import cached_arange


class ViewTransform(Protocol):
    """Makes V views of each image. Rows V * j to V * j + V - 1 are the views of image j; the first is its normal
    view."""

    @property
    def views_per_image(self) -> int:
        """V, the number of views of each image."""

    def __call__(
        self, images: Tensor, augmentation: Augmentation, generator: torch.Generator
    ) -> tuple[Tensor, Tensor | None]:
        """Maps images (B, 3, H, W) uint8 to views (V * B, 3, H, W), pixels 0 to 255, and ``Batch.view_labels``: (V *
        B,) int64, or None."""


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
    """Four views: rotations by 0, 90, 180 and 270 degrees counter-clockwise. Flip, rotation, then an independent
    crop per view (as in SSKD)."""

    views_per_image = 4

    def __call__(
        self, images: Tensor, augmentation: Augmentation, generator: torch.Generator
    ) -> tuple[Tensor, Tensor | None]:
        if augmentation.flip:
            images = random_flip(images, generator)
        views = rotations(images)
        labels = cached_arange(4, images.device, times=len(images))
        views = random_crop(views, augmentation.padding, generator)
        return augmentation.transform(views, generator), labels


@dataclass(frozen=True)
class Rotated:
    """Four views: rotations by 0, 90, 180 and 270 degrees of one crop and flip (as in HSAKD)."""

    views_per_image = 4

    def __call__(
        self, images: Tensor, augmentation: Augmentation, generator: torch.Generator
    ) -> tuple[Tensor, Tensor | None]:
        images, _ = SingleView()(images, augmentation, generator)
        return rotations(images), cached_arange(4, images.device, times=len(images))


def rotations(images: Tensor) -> Tensor:
    """Rotates (B, 3, S, S) by 0, 90, 180 and 270 degrees counter-clockwise. Returns (4 * B, 3, S, S) in
    channels-last."""
    last = images.permute(0, 2, 3, 1)
    return torch.stack([last.rot90(turn, (1, 2)) for turn in range(4)], dim=1).flatten(0, 1).permute(0, 3, 1, 2)
