"""How much longer a step takes with each method than with KD, in one run on this machine.

    python -m perf.method_steps --write docs/method_cost.md

A step of resnet56 to resnet20, batch 64, in the machine's fast precision; methods take turns, each turn a few steps.
The ratio is of the medians over the turns.
"""

import argparse
import statistics
import time
from pathlib import Path

import torch

from perf.stages import dataset_at, make_stage, stepper
from sskd.device import resolve_precision
from sskd.methods import METHODS
from sskd.runs.provenance import provenance


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--pair", default="resnet56/resnet20")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--steps", type=int, default=3, help="steps in a turn")
    parser.add_argument("--dataset-root", type=Path, default=Path("data"))
    parser.add_argument("--write", type=Path, help="also write the table to this file")
    options = parser.parse_args()

    steps = {}
    for name in METHODS:
        if name == "fsp" and options.pair != "resnet56/resnet20":
            continue  # most pairs' widths differ
        steps[name] = stepper(*make_stage(options.pair, name, "auto", options.dataset_root))
        steps[name]()
    seconds: dict[str, list[float]] = {name: [] for name in steps}
    for _ in range(options.rounds):
        for name, step in steps.items():
            started = time.perf_counter()
            for _ in range(options.steps):
                step()
            seconds[name].append((time.perf_counter() - started) / options.steps)
    text = _table(seconds, options)
    print(text)
    if options.write:
        options.write.write_text(text)


def _table(seconds: dict[str, list[float]], options: argparse.Namespace) -> str:
    median = {name: statistics.median(values) for name, values in seconds.items()}
    machine = provenance(torch.device("cpu"))
    precision = resolve_precision("auto", torch.device("cpu"))
    lines = [
        "# What a step costs with each method",
        "",
        f"`python -m perf.method_steps` on "
        f"{machine['device']}, {machine['threads']} threads, torch {machine['torch']}, "
        f"{precision}, {options.pair}, batch 64, {dataset_at(options.dataset_root)}: the main stage's step, median of "
        f"{options.rounds} interleaved turns of {options.steps} steps. SSKD trains on four views of every image, the "
        "others on one.",
        "",
        "| method | ms per step | lowest to highest | ratio to KD |",
        "| --- | --- | --- | --- |",
    ]
    for name in sorted(median, key=lambda name: median[name]):
        low, high = 1000 * min(seconds[name]), 1000 * max(seconds[name])
        ratio = median[name] / median["kd"]
        lines.append(f"| {name} | {1000 * median[name]:.0f} | {low:.0f} to {high:.0f} | {ratio:.2f} |")
    return "\n".join([*lines, ""])


if __name__ == "__main__":
    main()
