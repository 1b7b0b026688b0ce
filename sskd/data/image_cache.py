"""Caches decoded images for machines that decode too slowly."""

import hashlib
import os
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path

import numpy as np
from rich.console import Console
from rich.progress import track
from torch.utils.data import DataLoader

from sskd.data.file_loader import CropDataset, CropRequest, DecodedBatch
from sskd.data.image_files import Images, ResizeCenterCrop, use_one_thread, worker_count
from sskd.errors import UserError

BATCH = 32


def cached(images: Images, shape: ResizeCenterCrop, folder: Path, part: str, skip_corrupt: bool) -> Images:
    """Returns the images backed by a cache file of decoded centre crops, which is built if it does not exist. Raises
    UserError for a corrupt image (unless these are skipped), or if the disk is full."""
    listed = b"\0".join([os.fsencode(images.folder.resolve()), *images.files.tolist()])
    listing = hashlib.sha256(listed).hexdigest()[:12]
    file = folder / f"{part}-{shape.resize}-{shape.size}-{listing}.npy"
    bad = file.with_suffix(".unreadable.txt")
    if not file.exists():
        _build(images, shape, file, bad, skip_corrupt)
    lines = bad.read_text(encoding="utf-8").splitlines() if bad.exists() else []
    known = frozenset(int(line.split()[0]) for line in lines)
    if known and not skip_corrupt:
        raise UserError(f"{images.path(min(known))} cannot be read as an image (skip it with dataset.corrupt=skip)")
    return replace(images, cache=file, unreadable=known)


def _build(images: Images, shape: ResizeCenterCrop, file: Path, bad: Path, skip_corrupt: bool) -> None:
    """Writes the cache to a temporary file, then renames it: two processes that build it at the same time both end
    with a complete file. It is written sequentially, so that a full disk raises an error instead of a signal."""
    partial = file.with_name(f"{file.name}.{os.getpid()}.partial")
    numbers = np.arange(len(images))
    requests = [CropRequest(0, part) for part in np.split(numbers, numbers[BATCH::BATCH])]
    loader = DataLoader(
        CropDataset(images, numbers, shape, 0, "cache", skip=False),
        batch_size=None,
        sampler=requests,
        num_workers=worker_count(None, 1),
        worker_init_fn=use_one_thread,
    )
    header = {"descr": "|u1", "fortran_order": False, "shape": (len(images), shape.size, shape.size, 3)}
    failed: list[int] = []
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        with partial.open("wb") as out:
            np.lib.format.write_array_header_1_0(out, header)
            made: Iterable[DecodedBatch] = track(loader, f"decoding into {file}", console=Console(stderr=True))
            for request, batch in zip(requests, made, strict=True):
                if batch.unreadable and not skip_corrupt:
                    raise UserError(f"{batch.unreadable[0]} (skip it with dataset.corrupt=skip)")
                failed += request.positions[batch.positions.numpy() < 0].tolist()
                out.write(batch.pixels.numpy().tobytes())
        if failed:
            bad.write_text("".join(f"{number}\n" for number in failed), encoding="utf-8")
        os.replace(partial, file)
    except OSError as error:
        size = len(images) * shape.size**2 * 3 / 1e9
        raise UserError(f"the cache {file} ({size:.1f} GB) cannot be written: {error.strerror or error}") from None
    finally:
        partial.unlink(missing_ok=True)
