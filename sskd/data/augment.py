"""Augmentation of whole batches on the device, in pixel space (uint8), every sample with its own draws."""

from collections.abc import Callable
from typing import NamedTuple, TypeAlias

import torch
from torch import Tensor
from torch.nn import functional as F

from sskd.runtime.device import cached_arange

# (R, 3, H, W) uint8 and where to draw from, to the same shape and type
Transform: TypeAlias = Callable[[Tensor, torch.Generator], Tensor]


def identity(images: Tensor, generator: torch.Generator) -> Tensor:
    """The images; nothing is drawn."""
    return images


class Augmentation(NamedTuple):
    """How training images are changed at random: crops from an image padded with black on each side, flips, and a
    change of every view after them. The views (sskd/data/views.py) determine the order."""

    padding: int = 4  # pixels on each side; 0 turns crops off
    flip: bool = True  # horizontally, with probability 0.5
    transform: Transform = identity  # of cropped views, each with its own draws
    resized_crop: bool = True  # of image files, which are cropped when they are read; False: the middle square


def random_crop(images: Tensor, padding: int, generator: torch.Generator) -> Tensor:
    """Each image (B, C, H, W) cut from its black-padded self at its own uniform offsets; same shape and type."""
    if padding == 0:
        return images
    offsets = torch.randint(2 * padding + 1, (2, len(images)), generator=generator, device=images.device)
    return crop_at(images, padding, offsets[0], offsets[1])


def crop_at(images: Tensor, padding: int, top: Tensor, left: Tensor) -> Tensor:
    """Cuts image b (of B, C, H, W) at (top[b], left[b]), 0 to 2 * padding, from its black-padded self."""
    height, width = images.shape[2:]
    padded = F.pad(images, (padding,) * 4)
    windows = padded.unfold(2, height, 1).unfold(3, width, 1)  # a view: (B, C, 2p + 1, 2p + 1, H, W)
    return windows[cached_arange(len(images), images.device), :, top, left]


def random_flip(images: Tensor, generator: torch.Generator) -> Tensor:
    """Each image (B, C, H, W) mirrored left to right with probability 0.5."""
    mirrored = torch.rand(len(images), generator=generator, device=images.device) < 0.5
    return torch.where(mirrored[:, None, None, None], images.flip(3), images)
