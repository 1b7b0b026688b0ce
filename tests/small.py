"""Runs that train for real within a second or two: a few digits, the smallest networks, two epochs."""

import itertools
import json
from pathlib import Path
from typing import Any

from sskd.config.execution import Execution
from sskd.runs.spec import RunSpec, parse_spec, spec_yaml
from sskd.training.run import Interrupted, train

RECIPE = {"epochs": 2, "batch_size": 32, "learning_rate": 0.02, "flip": False, "precision": "fp32"}
SPLIT = {"fraction": 0.05}
EXECUTION = Execution(dataset_root="data")
TIMES = {"seconds", "evaluation_seconds", "images_per_second"}


def teacher(**changes: Any) -> dict[str, Any]:
    common = {"dataset": {"name": "digits"}, "recipe": RECIPE, "split": SPLIT}
    return {"role": "teacher", "network": "resnet8", **common, **changes}


def head(pretext: Any = "contrastive", **changes: Any) -> dict[str, Any]:
    base = teacher()
    return base | {"role": "head", "teacher": {"run": base}, "pretext": pretext} | changes


def student(method: Any = "kd", with_head: bool = False, **changes: Any) -> dict[str, Any]:
    made = teacher() | {"role": "student", "method": method, "teacher": {"run": teacher()}}
    return made | ({"head": head()} if with_head else {}) | changes


def spec(data: dict[str, Any]) -> RunSpec:
    return parse_spec(data, "test")


def train_all(wanted: RunSpec, runs: Path) -> dict[str, Any]:
    """Trains what the run needs, then the run."""
    for needed in wanted.dependencies:
        if not (runs / needed.id / "result.json").exists():
            train_all(needed, runs)
    return train(wanted, runs, EXECUTION, log=lambda _: None)


def train_with_stops(wanted: RunSpec, runs: Path, every: int) -> int:
    """Trains it, stopped at every so many steps, each time built anew from what was saved: the number of stops."""
    asked = itertools.count(1)
    for stops in range(20):
        try:
            train(wanted, runs, EXECUTION, should_stop=lambda: next(asked) % every == 0)
        except Interrupted:
            continue
        return stops
    raise AssertionError("it does not come to an end")


def assert_resumes(wanted: RunSpec, folder: Path, needs: Path = Path(), every: int = 2) -> Path:
    """Trains the run in one go, and stopped at every so many steps: metrics and weights are the same. ``needs``: the
    runs that it needs. Returns the folder of the run that was left alone."""
    for part in ("whole", "parts"):
        link_needs(needs, folder / part, wanted)
    train(wanted, folder / "whole", EXECUTION)
    assert train_with_stops(wanted, folder / "parts", every) > 1
    whole, parts = folder / "whole" / wanted.id, folder / "parts" / wanted.id
    assert metrics(parts) == metrics(whole)
    for file in whole.glob("*.safetensors"):
        assert (parts / file.name).read_bytes() == file.read_bytes()
    return whole


def metrics(run: Path) -> list[dict[str, Any]]:
    """A run's epochs without what the clock decides."""
    lines = (run / "metrics.jsonl").read_text().splitlines()
    return [{k: v for k, v in json.loads(line).items() if k not in TIMES} for line in lines]


def link_needs(runs: Path, target: Path, wanted: RunSpec) -> None:
    """Makes the runs that ``wanted`` needs known in another folder."""
    target.mkdir(exist_ok=True)
    for needed in wanted.dependencies:
        (target / needed.id).symlink_to(runs / needed.id)


def train_command(wanted: RunSpec, runs: Path) -> list[str]:
    """The options of `python -m sskd` that train it."""
    (runs / "spec.yaml").write_text(spec_yaml(wanted))
    return ["train", str(runs / "spec.yaml"), "--runs", str(runs)]
