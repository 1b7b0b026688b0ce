"""Jigsaw puzzles (Noroozi and Favaro, ECCV 2016) with 2 x 2 tiles: classify the order of the tiles (24 classes)."""

from itertools import permutations
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from sskd.data.augment import Augmentation, random_crop, random_flip
from sskd.data.batch import Batch
from sskd.data.views import ViewTransform
from sskd.errors import UserError
from sskd.losses import kd_divergence
from sskd.pretext.base import PRETEXTS, Pretext, PretextContext, Transfer, TransferConfig
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
class Jigsaw(Pretext):
    """Head: a linear classifier of the 24 orders, on the three puzzles. The transfer uses all predictions."""

    title = "Jigsaw"
    ignores = frozenset({"ss_keep"})

    def __init__(self, settings: Any, context: PretextContext) -> None:
        super().__init__(settings, context)
        self.classifier = nn.Linear(context.embed_dim, len(ORDERS))

    @classmethod
    def view_transform(cls, settings: Any) -> ViewTransform:
        return Puzzles()

    def forward(self, pooled: Tensor) -> Tensor:
        return self.classifier(pooled)

    def loss(self, output: Tensor, batch: Batch) -> tuple[Tensor, Tensor]:
        assert batch.view_labels is not None
        views = batch.views_per_image
        puzzles, target = transformed(output, views), transformed(batch.view_labels, views)
        return F.cross_entropy(puzzles, target), (puzzles.argmax(1) == target).float().mean()

    def transfer(self, student: Tensor, teacher: Tensor, batch: Batch, config: TransferConfig) -> Transfer:
        assert batch.view_labels is not None
        views = batch.views_per_image
        student_output, teacher_output = transformed(student, views), transformed(teacher, views)
        right = (teacher_output.argmax(1) == transformed(batch.view_labels, views)).float().mean()
        loss = kd_divergence(student_output, teacher_output, config.temperature, kind=config.divergence)
        return Transfer(loss, {"head_accuracy": right})
