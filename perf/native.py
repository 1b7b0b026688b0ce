"""What our C gains on the CPU (sskd/native), against torch's own operators, in one run here.

    python -m perf.native --pairs resnet56/resnet20

A student step of SSKD, batch 64, in the machine's fast precision, with and without the C, in turns of one step; and the
four rotations of a batch of 64 images of 224 x 224. Reported: medians, the middle four fifths, and the ratio.
"""

import argparse
import statistics
import time
from collections.abc import Callable
from pathlib import Path

import torch

from perf.stages import dataset_at, make_stage, stepper
from sskd import native
from sskd.data.views import rotations


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--pairs", default="resnet56/resnet20,wrn_40_2/wrn_16_2,vgg13/vgg8")
    parser.add_argument("--turns", type=int, default=30)
    parser.add_argument("--dataset-root", type=Path, default=Path("data"))
    options = parser.parse_args()
    if native.library() is None:
        raise SystemExit("there is no C compiler here: torch does it all")
    for pair in options.pairs.split(","):
        ways = {}
        for used in (True, False):
            native.allow(used)  # a stage's networks are made for what is allowed then
            ways[used] = stepper(*make_stage(pair, "sskd", "auto", options.dataset_root))
        compare(f"{pair}, student step, {dataset_at(options.dataset_root)}", ways, options.turns)
    images = torch.randint(0, 256, (64, 224, 224, 3), dtype=torch.uint8).permute(0, 3, 1, 2)
    compare("rotations of 64 images", dict.fromkeys((True, False), lambda: rotations(images)), options.turns)


def compare(name: str, ways: dict[bool, Callable[[], object]], turns: int) -> None:
    seconds: dict[bool, list[float]] = {used: [] for used in ways}
    for turn in range(turns + 3):  # the first three warm up
        for used in (True, False) if turn % 2 else (False, True):
            native.allow(used)
            started = time.perf_counter()
            ways[used]()
            if turn >= 3:
                seconds[used].append(1000 * (time.perf_counter() - started))
    native.allow(True)
    medians = {used: statistics.median(values) for used, values in seconds.items()}
    for used, values in seconds.items():
        tenths = statistics.quantiles(values, n=10)
        spread = f"{tenths[0]:.1f} to {tenths[-1]:.1f}"
        print(f"{name}, {'with our C' if used else 'torch alone'}: {medians[used]:.1f} ms ({spread})")
    print(f"  {medians[False] / medians[True]:.2f} times as fast", flush=True)


if __name__ == "__main__":
    main()
