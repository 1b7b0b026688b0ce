"""Measures the step time of each method relative to KD on this machine.

    python -m perf.method_steps --write docs/method_cost.json
    python docs/generate.py

A step of resnet56 to resnet20, batch 64, in the machine's fast precision; methods are measured in interleaved rounds of
a few steps. The ratio is that of the medians over the rounds. docs/methods.md shows these numbers.
"""

import argparse
import json
import statistics
import time
from pathlib import Path
from typing import Any

import torch

from perf.stages import dataset_at, make_stage, stepper
from sskd.config.recipe import Recipe
from sskd.errors import UserError
from sskd.methods import METHODS
from sskd.runs.provenance import provenance
from sskd.runtime.device import resolve_precision


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--pair", default="resnet56/resnet20")
    parser.add_argument("--methods", default="", help="methods separated by commas, including kd (default: all)")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--steps", type=int, default=3, help="steps per round")
    parser.add_argument("--dataset-root", type=Path, default=Path("data"))
    parser.add_argument("--write", type=Path, help="also write the results to this file, as JSON")
    options = parser.parse_args()

    steps = {}
    for name in options.methods.split(",") if options.methods else METHODS:
        try:
            steps[name] = stepper(*make_stage(options.pair, name, "auto", options.dataset_root))
        except UserError as error:
            print(f"{name} is omitted: {error}")
            continue
        steps[name]()
    seconds: dict[str, list[float]] = {name: [] for name in steps}
    for _ in range(options.rounds):
        for name, step in steps.items():
            started = time.perf_counter()
            for _ in range(options.steps):
                step()
            seconds[name].append((time.perf_counter() - started) / options.steps)
    measured = _measured(seconds, options)
    print(_table(measured))
    if options.write:
        options.write.write_text(json.dumps(measured, indent=1) + "\n", encoding="utf-8")


def _measured(seconds: dict[str, list[float]], options: argparse.Namespace) -> dict[str, Any]:
    """Returns the measurement's conditions, and per method the milliseconds per step."""
    machine = provenance(torch.device("cpu"))
    median = {name: statistics.median(values) for name, values in seconds.items()}
    return {
        "device": machine["device"],
        "threads": machine["threads"],
        "torch": machine["torch"],
        "precision": resolve_precision("auto", torch.device("cpu")),
        "pair": options.pair,
        "batch_size": Recipe().batch_size,
        "dataset": dataset_at(options.dataset_root),
        "rounds": options.rounds,
        "steps": options.steps,
        "methods": {
            name: {
                "milliseconds": round(1000 * median[name], 1),
                "lowest": round(1000 * min(seconds[name]), 1),
                "highest": round(1000 * max(seconds[name]), 1),
                "ratio_to_kd": round(median[name] / median["kd"], 2),
            }
            for name in sorted(median)
        },
    }


def _table(measured: dict[str, Any]) -> str:
    methods = measured["methods"]
    lines = ["| method | ms per step | lowest to highest | ratio to KD |", "| --- | --- | --- | --- |"]
    for name in sorted(methods, key=lambda name: methods[name]["milliseconds"]):
        of = methods[name]
        cells = (name, f"{of['milliseconds']:.0f}", f"{of['lowest']:.0f} to {of['highest']:.0f}", of["ratio_to_kd"])
        lines.append("| " + " | ".join(map(str, cells)) + " |")
    return "\n".join(lines)


if __name__ == "__main__":
    main()
