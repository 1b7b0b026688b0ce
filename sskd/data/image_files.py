"""Image files: decoding them, and a cache of decoded ones for machines whose cores decode too slowly."""

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

# torchvision has announced the end of its decoders. Their successor (torchcodec) is one more dependency, with a binary
# for each torch; Pillow is there anyway, and decodes where torchvision does not any more.
warnings.filterwarnings("ignore", "The image decoding and encoding capabilities of TorchVision", DeprecationWarning)


# what decoders raise for a damaged file: torchvision's, and Pillow's for one format or another
DAMAGED = (RuntimeError, OSError, ValueError, SyntaxError, EOFError, struct.error, Image.DecompressionBombError)
UNUSUAL = "it has several frames, or more than 8 bits"


class Unreadable(Exception):
    """An image file that cannot be decoded; the message is one line with its path."""


@dataclass
class Images:
    """Image files by number, decoded to RGB; from ``cache`` (N, S, S, 3) uint8 where there is one.

    files: (N,) of bytes, relative to ``folder``.
    """

    folder: Path
    files: np.ndarray
    cache: Path | None = None
    unreadable: frozenset[int] = frozenset()  # numbers of what the cache could not be made of
    _memory: np.ndarray | None = field(default=None, repr=False)

    def __len__(self) -> int:
        return len(self.files)

    def __getstate__(self) -> dict[str, object]:
        return self.__dict__ | {"_memory": None}  # another process maps the file itself

    def path(self, number: int) -> Path:
        """Where image ``number`` (from 0) lies."""
        return self.folder / os.fsdecode(self.files[number])

    def open(self, number: int) -> Tensor:
        """(3, H, W) uint8. Raises Unreadable."""
        if self.cache is None:
            return decode(self.path(number))
        if number in self.unreadable:
            raise Unreadable(f"{self.path(number)} cannot be read as an image")
        if self._memory is None:
            self._memory = np.load(self.cache, mmap_mode="r")
        return torch.from_numpy(np.array(self._memory[number])).permute(2, 0, 1)


def decode(path: Path) -> Tensor:
    """Any image as RGB, (3, H, W) uint8: grey, palette and CMYK too. Raises Unreadable."""
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
    """torchvision's where it still decodes a JPEG, else Pillow's: the pixels of a whole file are the same."""
    file = io.BytesIO()
    Image.new("RGB", (8, 8)).save(file, "JPEG")
    try:
        from torchvision.io import ImageReadMode, decode_image

        decode_image(torch.frombuffer(bytearray(file.getvalue()), dtype=torch.uint8), mode=ImageReadMode.RGB)
    except Exception:  # not there (ImportError, AttributeError), or built without the library (RuntimeError)
        return decode_with_pillow
    return lambda path: decode_image(str(path), mode=ImageReadMode.RGB)


def decode_with_pillow(path: Path) -> Tensor:
    """(3, H, W) uint8. ValueError as ``open_rgb``."""
    return torch.from_numpy(np.array(open_rgb(path))).permute(2, 0, 1).contiguous()


def open_rgb(path: Path) -> Image.Image:
    """An image as RGB, of 8 bits. ValueError for several frames, or 16 or 32 bits a pixel, which conversion to RGB
    would clip. A phone's JPEG with a preview behind it (MPO) is its first frame."""
    with Image.open(path) as image:
        if image.mode[0] in "IF" or (getattr(image, "n_frames", 1) > 1 and image.format != "MPO"):
            raise ValueError(UNUSUAL)
        return image.convert("RGB")


class ResizeCenterCrop(NamedTuple):
    """How test images are seen: the shorter side of (3, H, W) to ``resize`` pixels, then the middle ``size`` x
    ``size``. A value, so that it goes to other processes."""

    resize: int
    size: int

    def __call__(self, image: Tensor) -> Tensor:
        from torchvision.transforms.v2 import functional as vision  # torchvision takes two seconds to import

        return vision.center_crop(vision.resize(image, [self.resize], antialias=True), [self.size, self.size])


def cached(images: Images, shape: ResizeCenterCrop, folder: Path, part: str, skip_corrupt: bool) -> Images:
    """The same images from a file of decoded squares, which is made now if it is not there. UserError for a corrupt
    image (unless these are to be skipped), or where there is no room."""
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
        raise UserError(f"{images.path(min(known))} cannot be read as an image (dataset.corrupt=skip leaves it out)")
    return replace(images, cache=file, unreadable=known)


def _build(images: Images, shape: ResizeCenterCrop, file: Path, bad: Path, skip_corrupt: bool) -> None:
    """Writes the cache file front to back (so that a full disk is an error, and not a signal) under another name, then
    renames it: two processes that build it at once both end with a whole file."""
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
                    raise UserError(f"{errors[0][1]} (dataset.corrupt=skip leaves it out)")
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
    """Batches of decoded squares, with the numbers of those that could not be."""

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
    """The collate function of data sets that make whole batches."""
    return made


def use_one_thread(_: int) -> None:
    """Of a worker: many of them share the cores."""
    torch.set_num_threads(1)


def worker_count(asked: int | None, processes: int) -> int:
    """How many processes read images, for each process that trains."""
    if asked is not None:
        return asked
    return max(1, min(16, usable_cores() // processes))
