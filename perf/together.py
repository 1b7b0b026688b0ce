"""Students trained together, with one teacher's pass for all, against one after the other, in one run here.

    python -m perf.together --methods kd,at,sp

A round is a step of every method, batch 64, in the machine's fast precision; together and apart take turns, each a few
rounds. Reported: the median of the turns, with the lowest and highest, and the ratio.
"""

import argparse
import statistics
import time
from pathlib import Path

from perf.stages import dataset_at, make_stage, stepper
from sskd.sharing import Shared


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--pair", default="resnet56/resnet20")
    parser.add_argument("--methods", default="kd,at,sp")
    parser.add_argument("--turns", type=int, default=9)
    parser.add_argument("--rounds", type=int, default=3, help="in a turn")
    parser.add_argument("--dataset-root", type=Path, default=Path("data"))
    options = parser.parse_args()
    names = options.methods.split(",")
    shared = Shared(names)
    ways = {
        way: [stepper(*make_stage(options.pair, name, "auto", options.dataset_root, shared=common)) for name in names]
        for way, common in (("apart", None), ("together", shared))
    }
    seconds: dict[str, list[float]] = {way: [] for way in ways}
    for turn in range(options.turns + 1):  # the first warms up
        for way, steps in ways.items():
            started = time.perf_counter()
            for _ in range(options.rounds):
                for step in steps:
                    step()
            if turn:
                seconds[way].append((time.perf_counter() - started) / options.rounds)
    print(f"{options.pair}, {', '.join(names)}, {dataset_at(options.dataset_root)}: a step of each")
    for way, values in seconds.items():
        times = [1000 * value for value in values]
        print(f"  {way}: {statistics.median(times):.0f} ms ({min(times):.0f} to {max(times):.0f})")
    print(
        f"  together {statistics.median(seconds['apart']) / statistics.median(seconds['together']):.2f} times as fast"
    )


if __name__ == "__main__":
    main()
