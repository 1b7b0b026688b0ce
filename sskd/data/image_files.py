"""Decodes image files, and caches decoded images for machines that decode too slowly."""

import functools
import hashlib
import io
import os
import struct
import warnings
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from PIL import Image
from rich.console import Console
from rich.progress import track
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from sskd.errors import UserError
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
    _memory: np.ndarray | None = field(default=None, repr=False)

    def __len__(self) -> int:
        return len(self.files)

    def __getstate__(self) -> dict[str, object]:
        return self.__dict__ | {"_memory": None}  # each process maps the file itself

    def path(self, number: int) -> Path:
        """Returns the path of image ``number`` (from 0)."""
        return self.folder / os.fsdecode(self.files[number])

    def open(self, number: int) -> Tensor:
        """Returns image ``number`` as (3, H, W) uint8. Raises Unreadable."""
        if self.cache is None:
            return decode(self.path(number))
        if number in self.unreadable:
            raise Unreadable(f"{self.path(number)} cannot be read as an image")
        if self._memory is None:
            self._memory = np.load(self.cache, mmap_mode="r")
        return torch.from_numpy(np.array(self._memory[number])).permute(2, 0, 1)


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
    """Returns torchvision's decoder if it still decodes a JPEG, else Pillow's. Both give the same pixels."""
    file = io.BytesIO()
    Image.new("RGB", (8, 8)).save(file, "JPEG")
    try:
        from torchvision.io import ImageReadMode, decode_image

        decode_image(torch.frombuffer(bytearray(file.getvalue()), dtype=torch.uint8), mode=ImageReadMode.RGB)
    except Exception:  # missing (ImportError, AttributeError), or built without libjpeg (RuntimeError)
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


def cached(images: Images, shape: ResizeCenterCrop, folder: Path, part: str, skip_corrupt: bool) -> Images:
    """Returns the images backed by a cache file of decoded centre crops, which is built if it does not exist. Raises
    UserError for a corrupt image (unless these are skipped), or if the disk is full."""
    listed = b"\0".join([os.fsencode(images.folder.resolve()), *images.files.tolist()])
    listing = hashlib.sha256(listed).hexdigest()[:12]
    file = folder / f"{part}-{shape.resize}-{shape.size}-{listing}.npy"
    bad = file.with_suffix(".unreadable.txt")
    if not file.exists():
        _build(images, shape, file, bad, skip_corrupt)
    known = (
        frozenset(int(line.split()[0]) for line in bad.read_text(encoding="utf-8").splitlines())
        if bad.exists()
        else frozenset()
    )
    if known and not skip_corrupt:
        raise UserError(f"{images.path(min(known))} cannot be read as an image (skip it with dataset.corrupt=skip)")
    return replace(images, cache=file, unreadable=known)


def _build(images: Images, shape: ResizeCenterCrop, file: Path, bad: Path, skip_corrupt: bool) -> None:
    """Writes the cache to a temporary file, then renames it: two processes that build it at the same time both end
    with a complete file. It is written sequentially, so that a full disk raises an error instead of a signal."""
    partial = file.with_name(f"{file.name}.{os.getpid()}.partial")
    loader = DataLoader(
        _Squares(images, shape),
        batch_size=32,
        num_workers=worker_count(None, 1),
        collate_fn=no_collate,
        worker_init_fn=use_one_thread,
    )
    header = {"descr": "|u1", "fortran_order": False, "shape": (len(images), shape.size, shape.size, 3)}
    failed = []
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        with partial.open("wb") as out:
            np.lib.format.write_array_header_1_0(out, header)
            for pixels, errors in track(loader, f"decoding into {file}", console=Console(stderr=True)):
                if errors and not skip_corrupt:
                    raise UserError(f"{errors[0][1]} (skip it with dataset.corrupt=skip)")
                failed += errors
                out.write(pixels.tobytes())
        if failed:
            bad.write_text("".join(f"{number} {message}\n" for number, message in failed), encoding="utf-8")
        os.replace(partial, file)
    except OSError as error:
        size = len(images) * shape.size**2 * 3 / 1e9
        raise UserError(f"the cache {file} ({size:.1f} GB) cannot be written: {error.strerror or error}") from None
    finally:
        partial.unlink(missing_ok=True)


class _Squares(Dataset[tuple[np.ndarray, list[tuple[int, str]]]]):
    """Batches of decoded centre crops, with the indices of images that could not be decoded."""

    def __init__(self, images: Images, shape: ResizeCenterCrop) -> None:
        self.images, self.shape = images, shape

    def __len__(self) -> int:
        return len(self.images)

    def __getitems__(self, numbers: list[int]) -> tuple[np.ndarray, list[tuple[int, str]]]:
        pixels = np.zeros((len(numbers), self.shape.size, self.shape.size, 3), np.uint8)
        errors = []
        for row, number in enumerate(numbers):
            try:
                pixels[row] = self.shape(self.images.open(number)).permute(1, 2, 0).numpy()
            except Unreadable as error:
                errors.append((number, str(error)))
        return pixels, errors


def no_collate(made: Any) -> Any:
    """Collate function for data sets that make whole batches."""
    return made


def use_one_thread(_: int) -> None:
    """Initialises a worker with one thread: the workers share the cores."""
    torch.set_num_threads(1)


def worker_count(asked: int | None, processes: int) -> int:
    """Returns the number of image-reading processes per training process."""
    if asked is not None:
        return asked
    return max(1, min(16, usable_cores() // processes))
