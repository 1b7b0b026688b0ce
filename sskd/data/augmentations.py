"""Augmentations of training images, by the names that a recipe gives them. A user's own registers here too.

Each is a function from a recipe to an Augmentation: the crop and the flip, and what is done to every view after them.
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
    """Crops and flips, as the recipe has them."""
    return Augmentation(recipe.crop_padding, recipe.flip)


@AUGMENTATIONS.register("none")
def none(recipe: Recipe) -> Augmentation:
    """The images as they are; of image files the middle square."""
    return Augmentation(0, False, resized_crop=False)


@AUGMENTATIONS.register("cutout")
def cutout(recipe: Recipe) -> Augmentation:
    """Crop and flip, then a grey square on every view (DeVries and Taylor, 2017)."""
    return standard(recipe)._replace(transform=partial(cut_out, size=recipe.cutout_size))


@AUGMENTATIONS.register("strong")
def strong(recipe: Recipe) -> Augmentation:
    """Crop and flip, then two random operations of fourteen and a grey square on every view (sskd/data/strong.py)."""
    return standard(recipe)._replace(transform=strong_augment)


def cut_out(images: Tensor, generator: torch.Generator, size: int) -> Tensor:
    """(R, 3, H, W) uint8: a ``size`` x ``size`` square of each becomes grey. Its middle is uniform over the image's
    pixels, so a part of it may lie outside."""
    covered = []
    for length in images.shape[2:]:
        middle = torch.randint(length, (len(images), 1), generator=generator, device=images.device)
        first = middle - size // 2
        place = torch.arange(length, device=images.device)
        covered.append((place >= first) & (place < first + size))
    square = covered[0][:, None, :, None] & covered[1][:, None, None, :]
    return torch.where(square, constant(GREY, torch.uint8, images.device).view(3, 1, 1), images)
