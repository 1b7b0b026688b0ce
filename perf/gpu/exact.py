"""Compares whole runs bit by bit: eager, with CUDA graphs, and interrupted within two epochs, with a smaller last batch
and a learning rate that falls after the first epoch. Weights and metrics are compared with torch.equal, with
execution.deterministic.

On the CPU, which has no graphs, only the interrupted run is compared.
"""

import json
import tempfile
from functools import partial
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file

from perf.cases import Case, Cases, all_cases
from perf.gpu.items import Items, Measurement
from sskd.runs.run_folder import RunFolder
from sskd.runs.spec import RunSpec
from sskd.training.run import Interrupted, train

STOPS = (5, 16)  # number of steps before an interruption; an epoch has 11
TIMES = ("seconds", "evaluation_seconds", "images_per_second")


def items(measurement: Measurement) -> Items:
    cases = measurement.cases(measurement.out / "untrained")
    compared = measurement.sizes.compared
    chosen = [case for case in all_cases() if not compared or case.name in compared]
    return {case.name: partial(compare, case, cases, measurement) for case in chosen if measurement.computes}


def compare(case: Case, cases: Cases, measurement: Measurement) -> dict[str, Any]:
    spec = cases.spec(case, measurement.sizes.precision, few=True)
    with tempfile.TemporaryDirectory() as folder:
        whole = _train(spec, cases, measurement, Path(folder) / "eager", "off", ())
        others = {"stopped": _train(spec, cases, measurement, Path(folder) / "stopped", "off", STOPS)}
        if measurement.device.type == "cuda":
            others["graph"] = _train(spec, cases, measurement, Path(folder) / "graph", "on", ())
            others["graph, stopped"] = _train(spec, cases, measurement, Path(folder) / "both", "on", STOPS)
    differ = {
        name: [*_different(whole[0], weights), *_rows(whole[1], rows)] for name, (weights, rows) in others.items()
    }
    bad = [f"{name} differs in {', '.join(what[:3])}" for name, what in differ.items() if what]
    return {
        "compared": list(others),
        "tensors": len(whole[0]),
        "differ": differ,
        "good": not bad,
        "text": "; ".join(bad) or f"{', '.join(others)}: equal to the eager run",
    }


Found = tuple[dict[str, torch.Tensor], list[dict[str, Any]]]


def _train(
    spec: RunSpec, cases: Cases, measurement: Measurement, runs: Path, graphs: str, stops: tuple[int, ...]
) -> Found:
    """Returns the last weights and the metrics of a run that is interrupted after these steps, and resumed."""
    runs.mkdir()
    for needed in spec.dependencies:
        (runs / needed.id).symlink_to((cases.runs / needed.id).resolve())
    execution, done = measurement.execution(graphs, deterministic=True), 0

    def stop() -> bool:
        nonlocal done
        done += 1
        return done in stops

    while True:
        try:
            train(spec, runs, execution, log=lambda _: None, should_stop=stop)
            break
        except Interrupted:
            continue
    folder = RunFolder(runs, spec)
    lines = (folder.path / "metrics.jsonl").read_text(encoding="utf-8").splitlines()
    rows = [{key: value for key, value in json.loads(line).items() if key not in TIMES} for line in lines]
    return load_file(folder.weights("last")), rows


def _different(one: dict[str, torch.Tensor], other: dict[str, torch.Tensor]) -> list[str]:
    return [name for name in one.keys() | other.keys() if not torch.equal(one[name], other[name])]


def _rows(one: list[dict[str, Any]], other: list[dict[str, Any]]) -> list[str]:
    if len(one) != len(other):
        return ["epochs"]
    return [
        f"{key} of epoch {a['epoch']}" for a, b in zip(one, other, strict=True) for key in a if a[key] != b.get(key)
    ]
