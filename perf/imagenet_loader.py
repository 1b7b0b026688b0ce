"""ImageNet loading: our loader and torchvision's plain one, with the same transforms and workers.

    python -m perf.imagenet_loader          about a minute on two cores

Both read a generated folder of JPEGs of ImageNet's typical size. Plain: ImageFolder and a DataLoader; each worker
crops, flips, converts and normalises an image (for SSKD: four PIL rotations of the crop). Ours: the worker returns one
uint8 crop; views, conversion and normalisation run on the device (here the CPU that the workers share; nothing else
trains). Prints the median of interleaved rounds, with minimum and maximum.
"""

import argparse
import statistics
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torch.utils.data import DataLoader
from torchvision import transforms
from torchvision.datasets import ImageFolder

from perf.steps import interleaved
from sskd.config.recipe import DatasetSpec
from sskd.data.augment import Augmentation
from sskd.data.batch import LoaderConfig
from sskd.data.datasets.imagenet import STATISTICS
from sskd.data.datasets.registry import load_dataset
from sskd.data.memory_loader import SamplingConfig
from sskd.data.splits import Split
from sskd.data.views import Rotations, SingleView

BATCH = 64


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--images", type=int, default=512)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--workers", type=int, default=2)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        make_folder(folder / "imagenet", options.images)
        for views in (1, 4):
            variants = {
                "plain": plain(folder / "imagenet" / "train", views, options.workers),
                "ours": ours(folder, views, options.workers, None),
                "ours, cache of 256": ours(folder, views, options.workers, 256),
            }
            rates = interleaved({name: partial(rate_of, epoch) for name, epoch in variants.items()}, options.rounds + 1)
            median = {name: statistics.median(found[1:]) for name, found in rates.items()}  # without the warm-up
            for name, (_, *found) in rates.items():
                spread, ratio = f"{min(found):.0f} to {max(found):.0f}", median[name] / median["plain"]
                print(f"{views} views, {name}: {median[name]:.0f} images/s ({spread}), {ratio:.2f} times plain")


def rate_of(epoch: Callable[[], int]) -> float:
    """Returns the images per second of an epoch. epoch: returns its number of images."""
    started = time.perf_counter()
    return epoch() / (time.perf_counter() - started)


def make_folder(folder: Path, images: int) -> None:
    """Writes JPEGs of about 500 x 375 pixels and 70 kB, like photographs, with texture at several scales."""
    rng = np.random.default_rng(0)
    for number in range(images):
        size = (500, 375) if number % 4 else (375, 500)
        layers = [rng.normal(0, 30, (size[1] // step + 1, size[0] // step + 1, 3)) for step in (4, 16, 64)]
        texture = sum(
            np.asarray(Image.fromarray((layer + 128).clip(0, 255).astype(np.uint8)).resize(size, 2), float) - 128
            for layer in layers
        )
        pixels = np.clip(texture + rng.normal(128, 6, (size[1], size[0], 3)), 0, 255).astype(np.uint8)
        for part in ("train", "val") if number < 2 else ("train",):
            (folder / part / f"n{number % 2}").mkdir(parents=True, exist_ok=True)
            Image.fromarray(pixels).save(folder / part / f"n{number % 2}" / f"{number}.JPEG", quality=90)


def plain(folder: Path, views: int, workers: int) -> Callable[[], int]:
    """Returns an epoch of torchvision's own components, combined as in common training scripts."""
    crop = [transforms.RandomResizedCrop(224), transforms.RandomHorizontalFlip()]
    finish = transforms.Compose([transforms.ToTensor(), transforms.Normalize(*STATISTICS)])

    def rotated(image: Image.Image) -> Tensor:
        return torch.stack([finish(image.rotate(90 * turn)) for turn in range(4)])

    data = ImageFolder(str(folder), transforms.Compose([*crop, rotated if views == 4 else finish]))
    loader = DataLoader(data, BATCH, shuffle=True, num_workers=workers, persistent_workers=True, prefetch_factor=4)

    def epoch() -> int:
        total = 0
        for images, labels in loader:
            images = images.flatten(0, 1) if views == 4 else images
            images.to(memory_format=torch.channels_last)
            total += len(labels)
        return total

    return epoch


def ours(root: Path, views: int, workers: int, cache: int | None) -> Callable[[], int]:
    data = load_dataset(DatasetSpec(name="imagenet", cache_size=cache), root)
    split = Split(torch.arange(len(data.train_labels)), data.train_labels)
    config = LoaderConfig(torch.device("cpu"), workers=workers)
    sampling = SamplingConfig(BATCH, Rotations() if views == 4 else SingleView(), Augmentation())
    loader = data.train_loader(split, sampling, config)
    return lambda: sum(len(batch.labels) for batch in loader.epoch(0))


if __name__ == "__main__":
    main()
