"""Batches of images that are decoded while training, by worker processes; all views are made on the device."""

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
from sskd.data.image_files import Images, ResizeCenterCrop, Unreadable, no_collate, use_one_thread, worker_count
from sskd.data.memory_loader import RGB, Normalise, SamplingConfig, epoch_order, steps_per_epoch
from sskd.data.splits import Split
from sskd.errors import UserError
from sskd.runtime.seeding import stream_seed

PREFETCHED = 4  # batches that each worker makes ahead
LONGEST_WAIT = 900.0  # seconds for a batch: then the workers hang
SHARED = Path("/dev/shm")  # the memory through which workers hand over batches
SCALE, RATIO = [0.08, 1.0], [3 / 4, 4 / 3]  # of the random resized crop: its area and its shape


class RandomCrop(NamedTuple):
    """A random part of the image, resized to ``size`` x ``size``, mirrored in half of the cases: drawn from torch's
    global random state."""

    size: int
    flip: bool

    def __call__(self, image: Tensor) -> Tensor:
        from torchvision.transforms import RandomResizedCrop  # torchvision takes two seconds to import
        from torchvision.transforms.v2 import functional as vision

        top, left, height, width = RandomResizedCrop.get_params(image, SCALE, RATIO)
        image = vision.resized_crop(image, top, left, height, width, [self.size, self.size], antialias=True)
        mirrored = torch.rand(()) < 0.5  # drawn in any case: the crops are the same with and without
        return vision.horizontal_flip(image) if self.flip and mirrored else image


Crop: TypeAlias = RandomCrop | ResizeCenterCrop  # of training images, of test images


class CropRequest(NamedTuple):
    """What a worker is asked for: the crops of these positions in the split, in this epoch."""

    epoch: int
    positions: np.ndarray


class DecodedBatch(NamedTuple):
    """What a worker gives back. positions: of the images that these are crops of; where a corrupt image was skipped, of
    the one that took its place; -1 where no image of the split can be read."""

    pixels: Tensor  # (B, S, S, 3) uint8
    positions: Tensor  # (B,) int64
    unreadable: list[str]  # a line for each image that could not be decoded


class CropDataset(Dataset[DecodedBatch]):
    """Makes whole batches. A crop follows from (seed, stream, epoch, position) alone, so that it is the same whichever
    worker makes it."""

    def __init__(self, images: Images, numbers: np.ndarray, crop: Crop, seed: int, stream: str, skip: bool) -> None:
        self.images, self.numbers, self.crop = images, numbers, crop
        self.seed, self.stream, self.skip = seed, stream, skip

    def __getitem__(self, request: CropRequest) -> DecodedBatch:
        size = self.crop.size
        pixels = torch.empty(len(request.positions), size, size, 3, dtype=torch.uint8)
        positions, unreadable = [], []
        with torch.random.fork_rng(devices=[]):  # without workers this is the process that trains
            for row, position in enumerate(request.positions.tolist()):
                position, image, errors = self._open(position)
                positions.append(position)
                unreadable += errors
                if image is not None:
                    # what torch.manual_seed does to the CPU, without a look at all other devices: 1 us for 126
                    torch.default_generator.manual_seed(
                        stream_seed(self.seed, self.stream, "crop", request.epoch, position)
                    )
                    pixels[row] = self.crop(image).permute(1, 2, 0)
        return DecodedBatch(pixels, torch.tensor(positions), unreadable)

    def _open(self, position: int) -> tuple[int, Tensor | None, list[str]]:
        """The image, or the next of the split that can be read if corrupt ones are skipped."""
        errors: list[str] = []
        for _ in range(len(self.numbers) if self.skip else 1):
            try:
                return position, self.images.open(self.numbers[position]), errors
            except Unreadable as error:
                errors.append(str(error))
                position = (position + 1) % len(self.numbers)
        return -1, None, errors


ENLARGE = "docker run takes --shm-size=8g or --ipc=host, and on a machine of your own mount -o remount,size=8g /dev/shm"


def check_shared_memory(workers: int, batch: int) -> None:
    """UserError where the batches of ``batch`` bytes that so many workers make ahead have no room in shared memory: a
    container often has 64 MB, and a loader that fills it hangs or is killed."""
    if not workers or not SHARED.is_dir():
        return
    needed, free = (workers * PREFETCHED + 1) * batch, shutil.disk_usage(SHARED).free
    if needed > free:
        fitting = max(0, (free // batch - 1) // PREFETCHED) if batch else 0
        raise UserError(
            f"{workers} processes that read images need {needed / 1e6:,.0f} MB of shared memory, and {SHARED} has "
            f"{free / 1e6:,.0f} MB: set execution.workers={fitting}, or enlarge it ({ENLARGE})"
        )


class StreamLoader:
    """Batches as TrainLoader's, of images that need not fit into memory.

    An epoch can be entered at any step without decoding the images before it. Where several processes share a run, each
    decodes its own part of every batch. UserError, while iterating, for an image that cannot be decoded, unless such
    images are to be skipped.
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
        self.augmentation = Augmentation(
            0, False, augmentation.transform
        )  # crops and flips are made when files are read
        self.loader_config = config
        self.skipped: set[str] = set()  # a line for each image that was left out so far
        self._crops = CropDataset(images, split.indices.numpy(), crop, sampling.seed, sampling.stream, skip_corrupt)
        self._normalise = Normalise(mean, std, config.device, config.channels_last)
        self._steps = steps_per_epoch(len(split.indices), sampling.batch_size, config.rank.world_size)
        self._requests: list[CropRequest] = []  # the sampler: read anew by the workers' owner in every epoch
        workers = worker_count(config.workers, config.rank.world_size)
        rows = -(-sampling.batch_size // config.rank.world_size)
        check_shared_memory(workers, rows * 3 * crop.size**2)
        self._workers = DataLoader(
            self._crops,
            batch_size=None,
            sampler=self._requests,
            num_workers=workers,
            collate_fn=no_collate,
            pin_memory=config.device.type == "cuda",
            prefetch_factor=PREFETCHED if workers else None,
            timeout=LONGEST_WAIT if workers else 0,
            persistent_workers=workers > 0,
            worker_init_fn=use_one_thread,
            generator=torch.Generator(),  # of seeds that nobody uses: else the global one is drawn from
        )

    def __len__(self) -> int:
        return self._steps

    def epoch(self, epoch: int, start: int = 0) -> Iterator[Batch]:
        """The batches of an epoch (from 0) from step ``start`` on; equal for equal numbers, whatever ran before."""
        order = epoch_order(len(self.labels), self.seed, self.stream, epoch)
        yield from self._batches(epoch, order[: self._steps * self.batch_size], start)

    def in_order(self) -> Iterator[Batch]:
        """All images as they are listed, a last single one too."""
        yield from self._batches(0, torch.arange(len(self.labels)), 0)

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
            # several processes: no two rows may share their draws, and a method's draws are the same in all
            own.manual_seed(stream_seed(self.seed, self.stream, "step", epoch, step, "rank", rank))
            # (B, S, S, 3) as it lies is (B, 3, S, S) in channels-last
            pixels = made.pixels.to(device, non_blocking=True).permute(0, 3, 1, 2)
            images, view_labels = self.view_transform(pixels, self.augmentation, draws if size == 1 else own)
            positions = made.positions.to(device, non_blocking=True)
            yield Batch(
                self._normalise(images), self.labels[positions], positions, view_labels, draws, len(parts[step - start])
            )

    def _made(self) -> Iterator[DecodedBatch]:
        """What the workers make. UserError where they hang, or were killed."""
        made = iter(self._workers)
        while True:
            try:
                batch = next(made)
            except StopIteration:
                return
            except RuntimeError as error:
                if not str(error).startswith("DataLoader"):  # raised by what the workers do
                    raise
                raise UserError(
                    f"the processes that read images gave no batch ({' '.join(str(error).split())[:120]}): the disk "
                    f"hangs, or memory is short; with fewer (execution.workers) they need less, and {ENLARGE}"
                ) from None
            yield batch

    def _note(self, made: DecodedBatch) -> None:
        """UserError for a corrupt image, or a warning the first time that it is left out."""
        if made.unreadable and not self._crops.skip:
            raise UserError(f"{made.unreadable[0]}: mend or remove it, or leave it out with dataset.corrupt=skip")
        if int(made.positions.min()) < 0:
            raise UserError(f"none of the images can be read: {made.unreadable[0]}")
        for line in made.unreadable:
            if line not in self.skipped:
                warnings.warn(f"left out: {line}", stacklevel=2)
                self.skipped.add(line)
