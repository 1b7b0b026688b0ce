"""Batched augmentation on the device, on uint8 pixels, with independent random draws per image."""

from collections.abc import Callable
from typing import NamedTuple, TypeAlias

import torch
from torch import Tensor
from torch.nn import functional as F

from sskd.runtime.device import cached_arange

# from (R, 3, H, W) uint8 and a generator to the same shape and dtype
Transform: TypeAlias = Callable[[Tensor, torch.Generator], Tensor]


def identity(images: Tensor, generator: torch.Generator) -> Tensor:
    """Returns the images. Draws nothing."""
    return images


class Augmentation(NamedTuple):
    """Random augmentation of training images: zero-padded crop, horizontal flip, then a transform of every view. The
    view transform (sskd/data/views.py) decides the order."""

    padding: int = 4  # pixels on each side; 0: no crop
    flip: bool = True  # with probability 0.5
    transform: Transform = identity  # of cropped views, with independent draws per view
    resized_crop: bool = True  # of image files, in the worker; False: centre crop


def random_crop(images: Tensor, padding: int, generator: torch.Generator) -> Tensor:
    """Pads each image (B, C, H, W) with black and crops it at its own uniform offset. Returns the same shape and
    dtype."""
    if padding == 0:
        return images
    offsets = torch.randint(2 * padding + 1, (2, len(images)), generator=generator, device=images.device)
    return crop_at(images, padding, offsets[0], offsets[1])


def crop_at(images: Tensor, padding: int, top: Tensor, left: Tensor) -> Tensor:
    """Pads image b of (B, C, H, W) with black and crops it at (top[b], left[b]), each from 0 to 2 * padding."""
    height, width = images.shape[2:]
    padded = F.pad(images, (padding,) * 4)
    windows = padded.unfold(2, height, 1).unfold(3, width, 1)  # a view: (B, C, 2p + 1, 2p + 1, H, W)
    return windows[cached_arange(len(images), images.device), :, top, left]


def random_flip(images: Tensor, generator: torch.Generator) -> Tensor:
    """Flips each image (B, C, H, W) horizontally with probability 0.5."""
    mirrored = torch.rand(len(images), generator=generator, device=images.device) < 0.5
    return torch.where(mirrored[:, None, None, None], images.flip(3), images)
