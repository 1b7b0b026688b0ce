"""Images per second through the paper's four transformations: ours, and kornia's where it can be imported.

    pip install --target /tmp/kornia --no-deps kornia kornia_rs
    PYTHONPATH=/tmp/kornia python -m perf.transforms [--device cpu] [--threads 1]

Three views of every image, each by one of the four, as SSKD trains: 64 images of 32 x 32 give 192 views. kornia's
classes draw parameters for each sample, but one class serves a whole batch, so the views are first sorted by kind (on a
GPU the host waits for that); they draw from torch's global generator. "rotation" is the published code's alone.
The variants take turns; the median over the turns is given.
"""

import argparse
import json
import statistics
from collections.abc import Callable
from functools import partial

import torch
from torch import Tensor

from perf.turns import in_turns
from sskd.data.augment import Augmentation
from sskd.data.transformations import CROP_AREA, CROP_ASPECT, TRANSFORMATIONS, transform

Variant = Callable[[Tensor], Tensor]


def ours(images: Tensor) -> Tensor:
    generator = torch.Generator(device=images.device).manual_seed(0)
    return transform(images.repeat_interleave(3, 0), generator)[0]


def rotation(images: Tensor) -> Tensor:
    generator = torch.Generator(device=images.device).manual_seed(0)
    return TRANSFORMATIONS["rotation"](images, Augmentation(0, False), generator)[0]


def kornias(size: int) -> Variant:
    """kornia's classes with the same ranges, from uint8 to uint8. ImportError where there is no kornia."""
    import kornia.augmentation as kornia

    kinds = [
        kornia.RandomGrayscale(p=1.0),
        kornia.RandomRotation90(times=(1, 3), p=1.0),
        kornia.RandomResizedCrop((size, size), scale=CROP_AREA, ratio=CROP_ASPECT, p=1.0),
        kornia.ColorJiggle(0.4, 0.4, 0.4, 0.1, p=1.0),
    ]

    def run(images: Tensor) -> Tensor:
        views = images.repeat_interleave(3, 0)
        which = torch.randint(4, (len(views),), device=images.device)
        for number, kind in enumerate(kinds):
            rows = (which == number).nonzero()[:, 0]
            if len(rows):
                done = kind(views[rows].float() / 255)
                views[rows] = (done * 255).round().clamp(0, 255).to(torch.uint8)
        return views

    return run


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--images", type=int, default=64)
    parser.add_argument("--size", type=int, default=32)
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--device", default="cpu")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    images = torch.randint(0, 256, (options.images, 3, options.size, options.size), dtype=torch.uint8)
    images = images.to(options.device)
    variants: dict[str, Variant] = {"ours": ours, "rotation": rotation}
    try:
        variants["kornia"] = kornias(options.size)
    except ImportError as error:
        print(f"kornia is left out: {error}")

    def timed(variant: Variant) -> None:
        variant(images)
        if options.device != "cpu":
            torch.cuda.synchronize()

    seconds = in_turns({name: partial(timed, variant) for name, variant in variants.items()}, options.rounds)
    for name, values in seconds.items():
        median = statistics.median(values)
        row = {"variant": name, "threads": options.threads, "ms_per_batch": round(1000 * median, 1)}
        print(json.dumps(row | {"images_per_second": round(options.images / median)}))


if __name__ == "__main__":
    main()
