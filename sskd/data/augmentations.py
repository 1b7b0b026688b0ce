"""The registry of augmentations, by the names that recipes use. Users register their own here too.

An augmentation is a function from a recipe to an Augmentation: crop, flip, and the transform of every view after them.
"""

from collections.abc import Callable
from functools import partial

import torch
from torch import Tensor

from sskd.config.recipe import Recipe
from sskd.data.augment import Augmentation
from sskd.data.strong import GREY, strong_augment
from sskd.registry import Registry
from sskd.runtime.device import constant

AUGMENTATIONS: Registry[Callable[[Recipe], Augmentation]] = Registry("augmentation", "sskd.data")


@AUGMENTATIONS.register("standard")
def standard(recipe: Recipe) -> Augmentation:
    """Random crop and flip, with the recipe's settings."""
    return Augmentation(recipe.crop_padding, recipe.flip)


@AUGMENTATIONS.register("none")
def none(recipe: Recipe) -> Augmentation:
    """No augmentation; image files are centre-cropped."""
    return Augmentation(0, False, resized_crop=False)


@AUGMENTATIONS.register("cutout")
def cutout(recipe: Recipe) -> Augmentation:
    """Random crop and flip, then a grey square on every view (DeVries and Taylor, 2017)."""
    return standard(recipe)._replace(transform=partial(cut_out, size=recipe.cutout_size))


@AUGMENTATIONS.register("strong")
def strong(recipe: Recipe) -> Augmentation:
    """Random crop and flip, then two random operations out of fourteen and a grey square on every view
    (sskd/data/strong.py)."""
    return standard(recipe)._replace(transform=strong_augment)


def cut_out(images: Tensor, generator: torch.Generator, size: int) -> Tensor:
    """Covers a ``size`` x ``size`` square of each image (R, 3, H, W) uint8 with grey. The centre of the square is
    uniform over the pixels of the image, so part of the square may be outside."""
    covered = []
    for length in images.shape[2:]:
        centre = torch.randint(length, (len(images), 1), generator=generator, device=images.device)
        first = centre - size // 2
        index = torch.arange(length, device=images.device)
        covered.append((index >= first) & (index < first + size))
    square = covered[0][:, None, :, None] & covered[1][:, None, None, :]
    return torch.where(square, constant(GREY, torch.uint8, images.device).view(3, 1, 1), images)
