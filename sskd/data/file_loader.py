"""Batches of images that worker processes decode during training. The views are made on the device."""

import shutil
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple, TypeAlias

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from sskd.data.augment import Augmentation
from sskd.data.batch import Batch, LoaderConfig
from sskd.data.image_files import Images, ResizeCenterCrop, Unreadable, use_one_thread, worker_count
from sskd.data.memory_loader import RGB, Normalise, SamplingConfig, epoch_order, steps_per_epoch
from sskd.data.splits import Split
from sskd.errors import UserError
from sskd.runtime.seeding import stream_seed

PREFETCHED = 4  # batches per worker
LONGEST_WAIT = 900.0  # seconds for a batch, after which the workers count as hanging
SHARED = Path("/dev/shm")  # workers return batches through it
SCALE, RATIO = [0.08, 1.0], [3 / 4, 4 / 3]  # of the random resized crop: relative area, width / height


class RandomCrop(NamedTuple):
    """Random resized crop to ``size`` x ``size``, flipped with probability 0.5 if ``flip``. Draws from torch's
    global random state."""

    size: int
    flip: bool

    def __call__(self, image: Tensor) -> Tensor:
        from torchvision.transforms import RandomResizedCrop  # torchvision takes two seconds to import
        from torchvision.transforms.v2 import functional as vision

        top, left, height, width = RandomResizedCrop.get_params(image, SCALE, RATIO)
        image = vision.resized_crop(image, top, left, height, width, [self.size, self.size], antialias=True)
        mirrored = torch.rand(()) < 0.5  # always drawn, so that the crops do not depend on ``flip``
        return vision.horizontal_flip(image) if self.flip and mirrored else image


Crop: TypeAlias = RandomCrop | ResizeCenterCrop


class CropRequest(NamedTuple):
    """A request to a worker: the crops of these positions in the split, for this epoch."""

    epoch: int
    positions: np.ndarray


class DecodedBatch(NamedTuple):
    """The answer of a worker. positions: indices of the decoded images in the split. For a corrupt image that was
    skipped it is the index of the image used instead, or -1 if no image of the split can be read."""

    pixels: Tensor  # (B, S, S, 3) uint8
    positions: Tensor  # (B,) int64
    unreadable: list[str]  # a message per image that could not be decoded


class CropDataset(Dataset[DecodedBatch]):
    """Makes whole batches. A crop only depends on (seed, stream, epoch, position), so it is the same in every
    worker."""

    def __init__(self, images: Images, numbers: np.ndarray, crop: Crop, seed: int, stream: str, skip: bool) -> None:
        self.images, self.numbers, self.crop = images, numbers, crop
        self.seed, self.stream, self.skip = seed, stream, skip

    def __getitem__(self, request: CropRequest) -> DecodedBatch:
        size = self.crop.size
        pixels = torch.empty(len(request.positions), size, size, 3, dtype=torch.uint8)
        positions, unreadable = [], []
        with torch.random.fork_rng(devices=[]):  # without workers, this is the training process
            for row, position in enumerate(request.positions.tolist()):
                position, image, errors = self._open(position)
                positions.append(position)
                unreadable += errors
                if image is not None:
                    # torch.manual_seed would also visit all other devices: 126 us instead of 1
                    torch.default_generator.manual_seed(
                        stream_seed(self.seed, self.stream, "crop", request.epoch, position)
                    )
                    pixels[row] = self.crop(image).permute(1, 2, 0)
        return DecodedBatch(pixels, torch.tensor(positions), unreadable)

    def _open(self, position: int) -> tuple[int, Tensor | None, list[str]]:
        """Returns the position and image; if corrupt images are skipped, those of the next image that can be read."""
        errors: list[str] = []
        for _ in range(len(self.numbers) if self.skip else 1):
            try:
                return position, self.images.open(self.numbers[position]), errors
            except Unreadable as error:
                errors.append(str(error))
                position = (position + 1) % len(self.numbers)
        return -1, None, errors


ENLARGE = "docker run --shm-size=8g or --ipc=host; on your own machine, mount -o remount,size=8g /dev/shm"


def check_shared_memory(workers: int, batch: int) -> None:
    """Raises UserError if the prefetched batches of ``workers`` workers, ``batch`` bytes each, do not fit in shared
    memory. A container often has 64 MB, and a loader that fills them hangs or is killed."""
    if not workers or not SHARED.is_dir():
        return
    needed, free = (workers * PREFETCHED + 1) * batch, shutil.disk_usage(SHARED).free
    if needed > free:
        fitting = max(0, (free // batch - 1) // PREFETCHED) if batch else 0
        raise UserError(
            f"{workers} image-reading processes need {needed / 1e6:,.0f} MB of shared memory, but {SHARED} has "
            f"{free / 1e6:,.0f} MB: set execution.workers={fitting}, or enlarge it ({ENLARGE})"
        )


class StreamLoader:
    """Loads batches like TrainLoader, from image files that need not fit in memory.

    An epoch can be entered at any step without decoding the earlier images. If several processes share a run, each
    decodes its own rows of every batch. Iterating raises UserError for an image that cannot be decoded, unless
    ``skip_corrupt``.
    """

    def __init__(
        self,
        images: Images,
        split: Split,
        crop: Crop,
        sampling: SamplingConfig,
        config: LoaderConfig,
        mean: RGB,
        std: RGB,
        skip_corrupt: bool,
    ) -> None:
        self.labels = split.labels.to(config.device)
        self.batch_size, self.view_transform, augmentation, self.seed, self.stream = sampling
        # crops and flips are made when files are read
        self.augmentation = Augmentation(0, False, augmentation.transform)
        self.loader_config = config
        self.skipped: set[str] = set()  # a message per image that was skipped so far
        self._crops = CropDataset(images, split.indices.numpy(), crop, sampling.seed, sampling.stream, skip_corrupt)
        self._normalise = Normalise(mean, std, config.device, config.channels_last)
        self._steps = steps_per_epoch(len(split.indices), sampling.batch_size, config.rank.world_size)
        self._requests: list[CropRequest] = []  # the sampler, which DataLoader reads again in every epoch
        workers = worker_count(config.workers, config.rank.world_size)
        rows = -(-sampling.batch_size // config.rank.world_size)
        check_shared_memory(workers, rows * 3 * crop.size**2)
        self._workers = DataLoader(
            self._crops,
            batch_size=None,
            sampler=self._requests,
            num_workers=workers,
            pin_memory=config.device.type == "cuda",
            prefetch_factor=PREFETCHED if workers else None,
            timeout=LONGEST_WAIT if workers else 0,
            persistent_workers=workers > 0,
            worker_init_fn=use_one_thread,
            generator=torch.Generator(),  # unused; without it DataLoader would draw from the global generator
        )

    def __len__(self) -> int:
        return self._steps

    def epoch(self, epoch: int, start: int = 0) -> Iterator[Batch]:
        """Yields the batches of an epoch (from 0), beginning with step ``start``. They only depend on these two
        numbers."""
        order = epoch_order(len(self.labels), self.seed, self.stream, epoch)
        yield from self._batches(epoch, order[: self._steps * self.batch_size], start)

    def in_order(self) -> Iterator[tuple[Tensor, Tensor]]:
        """Yields all images in their order with their labels; the last batch may have a single image."""
        for batch in self._batches(0, torch.arange(len(self.labels)), 0):
            yield batch.images, batch.labels

    def _batches(self, epoch: int, order: Tensor, start: int) -> Iterator[Batch]:
        parts = order.split(self.batch_size)[start:]
        self._requests[:] = [
            CropRequest(epoch, part[self.loader_config.rank.rows(len(part))].numpy()) for part in parts
        ]
        device = self.loader_config.device
        draws, own = (torch.Generator(device=device) for _ in range(2))
        rank, size = self.loader_config.rank.number, self.loader_config.rank.world_size
        for step, made in enumerate(self._made(), start):
            self._note(made)
            draws.manual_seed(stream_seed(self.seed, self.stream, "step", epoch, step))
            # views: independent draws on every rank; methods: the same draws on all ranks
            own.manual_seed(stream_seed(self.seed, self.stream, "step", epoch, step, "rank", rank))
            # contiguous (B, S, S, 3) is (B, 3, S, S) in channels-last
            pixels = made.pixels.to(device, non_blocking=True).permute(0, 3, 1, 2)
            images, view_labels = self.view_transform(pixels, self.augmentation, draws if size == 1 else own)
            positions = made.positions.to(device, non_blocking=True)
            yield Batch(
                self._normalise(images), self.labels[positions], positions, view_labels, draws, len(parts[step - start])
            )

    def _made(self) -> Iterator[DecodedBatch]:
        """Yields the batches of the workers. Raises UserError if the workers hang or were killed."""
        try:
            yield from self._workers
        except RuntimeError as error:
            if not str(error).startswith("DataLoader"):  # raised inside a worker
                raise
            raise UserError(
                f"the image-reading processes returned no batch ({' '.join(str(error).split())[:120]}): the disk "
                f"hangs, or memory is short; lower execution.workers or enlarge shared memory ({ENLARGE})"
            ) from None

    def _note(self, made: DecodedBatch) -> None:
        """Raises UserError for a corrupt image; if corrupt images are skipped, warns once per image."""
        if made.unreadable and not self._crops.skip:
            raise UserError(
                f"{made.unreadable[0]}: repair or delete the file, or skip unreadable images with "
                "--set dataset.corrupt=skip"
            )
        if int(made.positions.min()) < 0:
            raise UserError(f"no image of the split can be read: {made.unreadable[0]}")
        for line in made.unreadable:
            if line not in self.skipped:
                warnings.warn(f"skipped: {line}", stacklevel=2)
                self.skipped.add(line)
