"""Measures the step time of each method relative to KD on this machine.

    python -m perf.method_steps --write docs/method_cost.json
    python docs/generate.py

A step of resnet56 to resnet20, batch 64, in the machine's fast precision; methods are measured in interleaved rounds of
a few steps. The ratio is that of the medians over the rounds. docs/methods.md shows these numbers.
"""

import argparse
import json
import statistics
import tempfile
from functools import partial
from pathlib import Path

import torch

from perf.cases import Case, Cases, dataset_at
from perf.steps import begin, interleaved, seconds_of, stepper
from sskd.config.execution import Execution
from sskd.errors import UserError
from sskd.formatting import markdown_table
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
    execution = Execution(dataset_root=str(options.dataset_root), device="cpu")
    with tempfile.TemporaryDirectory() as folder:
        cases, steps = Cases(Path(folder), options.dataset_root, options.pair), {}
        for name in options.methods.split(",") if options.methods else METHODS:
            try:
                steps[name] = stepper(begin(cases.spec(Case("student", name), "auto"), cases.runs, execution))
            except UserError as error:
                print(f"{name} is omitted: {error}")
                continue
            steps[name]()
        timed = {name: partial(seconds_of, step, options.steps) for name, step in steps.items()}
        milliseconds = {name: [1000 * x for x in found] for name, found in interleaved(timed, options.rounds).items()}
    median = {name: statistics.median(found) for name, found in sorted(milliseconds.items())}
    methods = {
        name: {
            "milliseconds": round(found, 1),
            "lowest": round(min(milliseconds[name]), 1),
            "highest": round(max(milliseconds[name]), 1),
            "ratio_to_kd": round(found / median["kd"], 2),
        }
        for name, found in median.items()
    }
    rows = [
        (name, f"{of['milliseconds']:.0f}", f"{of['lowest']:.0f} to {of['highest']:.0f}", of["ratio_to_kd"])
        for name, of in sorted(methods.items(), key=lambda entry: entry[1]["milliseconds"])
    ]
    print(markdown_table(("method", "ms per step", "lowest to highest", "ratio to KD"), rows), end="")
    if options.write:
        machine = provenance(torch.device("cpu"))
        measured = {key: machine[key] for key in ("device", "threads", "torch")}
        measured |= {"precision": resolve_precision("auto", torch.device("cpu")), "pair": options.pair}
        measured |= {"batch_size": cases.batch, "dataset": dataset_at(options.dataset_root)}
        measured |= {"rounds": options.rounds, "steps": options.steps, "methods": methods}
        options.write.write_text(json.dumps(measured, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
