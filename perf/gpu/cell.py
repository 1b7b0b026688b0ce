"""Trains a cell of the paper's table 3 with the normal trainer: the head, the SSKD student, then KD, as time permits.

Specs and run folders are those of run_all.py --profile paper, which can resume OUT/runs.
"""

import hashlib
from functools import partial
from pathlib import Path
from typing import Any

from perf.cases import dataset_at
from perf.gpu.items import Items, Measurement
from sskd.runs.run_folder import RunFolder
from sskd.runs.spec import RunSpec, StudentSpec, parse_spec, with_ancestors
from sskd.training.run import Interrupted, train


def items(measurement: Measurement) -> Items:
    """Returns the runs in order of their dependencies."""
    wanted = with_ancestors(cell_spec(measurement, method) for method in ("sskd", "kd"))
    return {run_id: partial(train_run, spec, measurement) for run_id, spec in wanted.items() if measurement.computes}


def cell_spec(measurement: Measurement, method: str) -> RunSpec:
    """Returns the student of seed 0 with its ancestors, as in the profile paper; with fewer epochs if the sizes say
    so."""
    sizes, dataset = measurement.sizes, dataset_at(measurement.root)
    teacher_name, student_name = sizes.pair.split("/")
    common: dict[str, Any] = {"dataset": {"name": dataset}}
    long = {"recipe": {"epochs": sizes.student_epochs}}
    if measurement.teacher:
        digest = hashlib.sha256(Path(measurement.teacher).read_bytes()).hexdigest()
        teacher: dict[str, Any] = {"network": teacher_name, "weights": measurement.teacher, "sha256": digest}
    else:
        teacher = {"run": {"role": "teacher", "network": teacher_name, **common, **long}}
    head = {
        "role": "head",
        "network": teacher_name,
        "pretext": "contrastive",
        "teacher": teacher,
        "recipe": {"epochs": sizes.head_epochs, "milestones": [30, 45], "full_epochs": 60},
        **common,
    }
    student = {"role": "student", "network": student_name, "method": method, "teacher": teacher, **common, **long}
    return parse_spec(student | ({"head": head} if method == "sskd" else {}), "the cell of perf.gpu")


def train_run(spec: RunSpec, measurement: Measurement) -> dict[str, Any]:
    """Resumes the run until it is finished or the time is over."""
    runs = measurement.out / "runs"
    lacks = [needed.id for needed in spec.dependencies if not RunFolder(runs, needed).is_finished()]
    if lacks:
        return {"unfinished": True, "text": f"waiting for {lacks[0]}"}
    try:
        result = train(spec, runs, measurement.execution(), log=lambda _: None, should_stop=measurement.time_is_up)
    except Interrupted as stopped:
        return {"unfinished": True, "text": str(stopped)}
    last = {key: value for key, value in result["last"].items() if isinstance(value, int | float)}
    top1 = last.get("test_top1", last.get("test_head_top1"))
    return {
        "role": spec.role,
        "method": spec.method.name if isinstance(spec, StudentSpec) else "",
        "epochs": spec.recipe.epochs,
        "best": result["best"],
        "last": last,
        "training_seconds": result["seconds"],
        "images_per_second": result["images_per_second"],
        "machine": result["machine"],
        "text": f"top-1 {top1:.2f} % after {result['seconds'] / 60:.1f} minutes" if top1 is not None else "done",
    }
