"""Decodes image files."""

import functools
import os
import struct
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from sskd.runtime.cores import usable_cores

# torchvision has announced the removal of its decoders. The successor (torchcodec) would be another dependency, with a
# binary per torch version; Pillow is installed anyway and decodes if torchvision no longer does.
warnings.filterwarnings("ignore", "The image decoding and encoding capabilities of TorchVision", DeprecationWarning)


# exceptions of torchvision's and Pillow's decoders for a damaged file
DAMAGED = (RuntimeError, OSError, ValueError, SyntaxError, EOFError, struct.error, Image.DecompressionBombError)
UNUSUAL = "it has several frames, or more than 8 bits per channel"


class Unreadable(Exception):
    """An image file cannot be decoded; the message is one line with its path."""


@dataclass
class Images:
    """Image files by index, decoded to RGB, or read from ``cache`` (N, S, S, 3) uint8 if there is one.

    files: (N,) bytes, paths relative to ``folder``.
    """

    folder: Path
    files: np.ndarray
    cache: Path | None = None
    unreadable: frozenset[int] = frozenset()  # indices of images that are missing in the cache

    def __len__(self) -> int:
        return len(self.files)

    def path(self, number: int) -> Path:
        """Returns the path of image ``number`` (from 0)."""
        return self.folder / os.fsdecode(self.files[number])

    def open(self, number: int) -> Tensor:
        """Returns image ``number`` as (3, H, W) uint8. Raises Unreadable."""
        if self.cache is None:
            return decode(self.path(number))
        if number in self.unreadable:
            raise Unreadable(f"{self.path(number)} cannot be read as an image")
        return torch.from_numpy(np.array(_mapped(self.cache)[number])).permute(2, 0, 1)


@functools.lru_cache(maxsize=4)
def _mapped(cache: Path) -> np.ndarray:
    return np.load(cache, mmap_mode="r")


def decode(path: Path) -> Tensor:
    """Decodes an image file (also grey, palette or CMYK) as RGB, (3, H, W) uint8. Raises Unreadable."""
    try:
        image = decoder()(path)
    except DAMAGED as error:
        reason = (str(error).splitlines() or [type(error).__name__])[0].rpartition("cpp:")[2]
        raise Unreadable(f"{path} cannot be read as an image: {reason}") from None
    if image.ndim != 3 or image.dtype != torch.uint8:
        raise Unreadable(f"{path} cannot be read as an image: {UNUSUAL}")
    return image


@functools.cache
def decoder() -> Callable[[Path], Tensor]:
    """Returns torchvision's decoder if it still has one, else Pillow's. Both give the same pixels."""
    try:
        from torchvision.io import ImageReadMode, decode_image
    except ImportError:
        return decode_with_pillow
    return lambda path: decode_image(str(path), mode=ImageReadMode.RGB)


def decode_with_pillow(path: Path) -> Tensor:
    """Decodes an image file as (3, H, W) uint8. Raises ValueError as ``open_rgb`` does."""
    return torch.from_numpy(np.array(open_rgb(path))).permute(2, 0, 1).contiguous()


def open_rgb(path: Path) -> Image.Image:
    """Opens an image as 8-bit RGB. Raises ValueError for several frames, and for 16 or 32 bits per pixel, which the
    conversion to RGB would clip. For a phone's JPEG with an embedded preview (MPO), it opens the first frame."""
    with Image.open(path) as image:
        if image.mode[0] in "IF" or (getattr(image, "n_frames", 1) > 1 and image.format != "MPO"):
            raise ValueError(UNUSUAL)
        return image.convert("RGB")


class ResizeCenterCrop(NamedTuple):
    """Transform of test images: resizes the shorter side of (3, H, W) to ``resize`` pixels, then crops the centre
    ``size`` x ``size``. A NamedTuple, so that it can be pickled for the workers."""

    resize: int
    size: int

    def __call__(self, image: Tensor) -> Tensor:
        from torchvision.transforms.v2 import functional as vision  # torchvision takes two seconds to import

        return vision.center_crop(vision.resize(image, [self.resize], antialias=True), [self.size, self.size])


def use_one_thread(_: int) -> None:
    """Initialises a worker with one thread: the workers share the cores."""
    torch.set_num_threads(1)


def worker_count(asked: int | None, processes: int) -> int:
    """Returns the number of image-reading processes per training process."""
    if asked is not None:
        return asked
    return max(1, min(16, usable_cores() // processes))
