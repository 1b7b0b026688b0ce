"""How far apart honest replays of an epoch are, and forged ones: why benchmarks/records/comparing.py has no tolerance
for trained weights (docs/verify.md).

    python -m perf.replay_tolerance

Trains students on handwritten digits, keeps their states, and replays their first and last epoch as it was, and with
what rounds otherwise: other threads, the vector instructions of older CPUs, another memory layout, the teacher not
folded, a GPU where there is one. Then replays epochs of runs that were trained otherwise than they say. Prints the
distance (comparing.distance), the largest difference of an accuracy in points, and of the epoch's other numbers in
percent, the largest over epochs.
"""

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import torch

from benchmarks.records.comparing import CLOCK, distance
from sskd.config.execution import Execution
from sskd.runs.epoch_state import read_state, state_hash
from sskd.runs.run_folder import RunFolder
from sskd.runs.spec import RunSpec, parse_spec, read_spec, spec_yaml
from sskd.training.loop import train
from sskd.training.replay import replay_epoch
from sskd.training.setup import prepare
from sskd.training.tasks import build_task

OLDER = {"ATEN_CPU_CAPABILITY": "avx2", "ONEDNN_MAX_CPU_ISA": "AVX2"}
HONEST: dict[str, tuple[dict[str, Any], dict[str, str]]] = {
    "as it was": ({}, {}),
    "AVX2": ({}, OLDER),
    "channels first": ({"channels_last": False}, {}),
    "teacher not folded": ({"fold_teacher": False}, {}),
}
THREADS: dict[str, Any] = {"2 threads": ({"threads": 2}, {})}  # last: on a busy machine they wait for each other
FORGED: dict[str, dict[str, Any]] = {
    "rate x 1.1": {"learning_rate": 0.055},
    "rate x 1.5": {"learning_rate": 0.075},
    "seed": {"seed": 1},
}


def spec_of(method: str, precision: str, **changes: Any) -> RunSpec:
    """A student of 3 epochs of 90 steps, with changes of its recipe or seed."""
    seed, recipe = changes.pop("seed", 0), {"epochs": 3, "batch_size": 16, "flip": False, "precision": precision}
    common = {"dataset": {"name": "digits16"}, "network": "resnet8"}
    teacher = {"role": "teacher", **common, "recipe": {**recipe, "epochs": 2}}
    head = {**teacher, "role": "head", "teacher": {"run": teacher}, "pretext": "contrastive"}
    student = {"role": "student", **common, "recipe": recipe | changes, "seed": seed, "method": method}
    student |= {"teacher": {"run": teacher}} if method != "none" else {}
    return parse_spec(student | ({"head": head} if method == "sskd" else {}), method)


def train_all(spec: RunSpec, runs: Path, keep: bool = True) -> None:
    for needed in spec.needs:
        train_all(needed, runs, keep=False)
    train(spec, runs, Execution(device="cpu", threads=1, keep_epochs=keep), say=lambda _: None)


def replayed(claimed: RunSpec, trained: RunSpec, runs: Path, execution: Execution) -> dict[str, Any]:
    """The first and last epoch of ``trained``, replayed as one of ``claimed``: the largest distance and differences."""
    folder, worst = RunFolder(runs, trained), {"equal": True, "distance": 0.0, "points": 0.0, "percent": 0.0}
    rows = folder.read_metrics()
    begin = build_task(prepare(claimed, runs, execution)).modules.state_dict()
    for segment in (0, len(rows) - 1):
        row = rows[segment]
        with tempfile.TemporaryDirectory() as text:
            there = Path(text) / "runs"
            there.mkdir()
            for needed in claimed.needs:
                shutil.copytree(runs / needed.id, there / needed.id)
            start = read_state(folder.epoch_state(segment)) | {"run": claimed.id} if segment else None
            again = replay_epoch(claimed, there, execution, rows[:segment], start)
        theirs = read_state(folder.epoch_state(segment + 1)) | {"run": claimed.id}
        before = start["modules"] if start else {key: value.cpu() for key, value in begin.items()}
        worst["equal"] = worst["equal"] and state_hash(theirs) == state_hash(again.state)
        worst["distance"] = max(worst["distance"], distance(theirs["modules"], again.state["modules"], before))
        for key, value in again.row.items():
            if isinstance(value, float) and key not in CLOCK and key != "rate":
                apart = abs(value - row[key])
                kind = "points" if "top" in key else "percent"
                worst[kind] = max(worst[kind], apart if kind == "points" else 100 * apart / max(abs(row[key]), 1e-9))
    return worst


def measured(runs: Path, claimed: RunSpec, trained: RunSpec, settings: dict[str, Any], env: dict[str, str]) -> Any:
    """``replayed`` with these settings, in a process of its own where the environment differs: torch settles which
    vector instructions are used when it is imported."""
    if not env:
        return replayed(claimed, trained, runs, Execution.model_validate({"device": "cpu", "threads": 1} | settings))
    command = [sys.executable, "-m", "perf.replay_tolerance", "--runs", str(runs), "--settings", json.dumps(settings)]
    names = []
    for name, spec in (("claimed.yaml", claimed), ("trained.yaml", trained)):
        (runs / name).write_text(spec_yaml(spec))
        names.append(name)
    done = subprocess.run([*command, *names], env=os.environ | env, capture_output=True, text=True, check=True)
    return json.loads(done.stdout.splitlines()[-1])


def line(method: str, precision: str, what: str, worst: dict[str, Any]) -> None:
    equal = "bit for bit" if worst["equal"] else f"distance {worst['distance']:.2g}"
    print(
        f"{method:5} {precision} {what:20} {equal:18} {worst['points']:.2f} points {worst['percent']:.2f} %", flush=True
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--methods", default="none,kd,sskd")
    parser.add_argument("--precisions", default="fp32,bf16")
    parser.add_argument("--runs", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--settings", default="{}", help=argparse.SUPPRESS)
    parser.add_argument("names", nargs="*", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.runs:
        claimed, trained = (read_spec(options.runs / name) for name in options.names)
        settings = {"device": "cpu", "threads": 1} | json.loads(options.settings)
        print(json.dumps(replayed(claimed, trained, options.runs, Execution(**settings))))
        return
    gpu: dict[str, Any] = {"GPU": ({"device": "cuda"}, {})} if torch.cuda.is_available() else {}
    for precision in options.precisions.split(","):
        for method in options.methods.split(","):
            with tempfile.TemporaryDirectory() as text:
                runs, spec = Path(text), spec_of(method, precision)
                train_all(spec, runs)
                for what, changes in FORGED.items():
                    other = spec_of(method, precision, **changes)
                    train_all(other, runs)
                    line(method, precision, f"forged: {what}", measured(runs, spec, other, {}, {}))
                for what, (settings, env) in (HONEST | gpu | THREADS).items():
                    line(method, precision, what, measured(runs, spec, spec, settings, env))


if __name__ == "__main__":
    main()
