"""Jigsaw puzzles (Noroozi and Favaro, ECCV 2016) with 2 x 2 tiles: classify the order of the tiles (24 classes)."""

from itertools import permutations
from typing import Any

import torch
from torch import Tensor

from sskd.data.augment import Augmentation, random_crop, random_flip
from sskd.data.batch import Batch
from sskd.data.views import ViewTransform
from sskd.errors import UserError
from sskd.pretext.base import PRETEXTS
from sskd.pretext.rotation import ViewClassifier
from sskd.pretext.selection import transformed
from sskd.runtime.device import constant

ORDERS = tuple(permutations(range(4)))  # the first is the identity


class Puzzles:
    """Makes four views: the normal one and three puzzles with independent uniform orders.

    The image is flipped; each view gets its own crop and transform, and then its tiles are permuted.
    """

    views_per_image = 4

    def __call__(
        self, images: Tensor, augmentation: Augmentation, generator: torch.Generator
    ) -> tuple[Tensor, Tensor | None]:
        if augmentation.flip:
            images = random_flip(images, generator)
        views = random_crop(images.repeat_interleave(self.views_per_image, 0), augmentation.padding, generator)
        views = augmentation.transform(views, generator)
        labels = torch.randint(len(ORDERS), (len(views),), generator=generator, device=images.device)
        labels[:: self.views_per_image].zero_()  # the normal view
        return lay_out(views, labels), labels


def lay_out(images: Tensor, labels: Tensor) -> Tensor:
    """Permutes the quarters of each image: quarter k (in reading order) becomes the quarter ``ORDERS[label][k]``.

    images: (B, C, H, W), any dtype. labels: (B,) int64, 0 to 23. Raises UserError if H or W is odd.
    """
    batch, channels, height, width = images.shape
    if height % 2 or width % 2:
        raise UserError(f"the task 'jigsaw' needs images with even sides, not {height} x {width} pixels")
    orders = constant(ORDERS, torch.int64, images.device)[labels]
    tiles = images.unflatten(2, (2, height // 2)).unflatten(4, (2, width // 2))  # (B, C, 2, h, 2, w)
    tiles = tiles.permute(0, 2, 4, 1, 3, 5).flatten(1, 2)  # (B, 4, C, h, w)
    tiles = tiles[torch.arange(batch, device=images.device)[:, None], orders]
    return tiles.unflatten(1, (2, 2)).permute(0, 3, 1, 4, 2, 5).reshape(batch, channels, height, width)


@PRETEXTS.register("jigsaw")
class Jigsaw(ViewClassifier):
    """Classifies the 24 orders of the three puzzles."""

    title = "Jigsaw"
    outputs = len(ORDERS)

    @classmethod
    def view_transform(cls, settings: Any) -> ViewTransform:
        return Puzzles()

    def classified(self, rows: Tensor, batch: Batch) -> Tensor:
        return transformed(rows, batch.views_per_image)
