"""The content of result.json: measurements of a run, the comparability card, and provenance."""

import hashlib
import math
import time
from collections.abc import Mapping
from datetime import datetime, timezone
from functools import lru_cache
from pathlib import Path
from typing import Any

from torch import Tensor

from sskd.data.datasets.registry import ImageData
from sskd.errors import UserError
from sskd.networks.fingerprint import network_sha256
from sskd.networks.weights import file_sha256
from sskd.runs.plugins import noted
from sskd.runs.provenance import provenance
from sskd.runs.records import SCHEMA, ExecutedAs, MeasuredWith
from sskd.runs.run_folder import RunFolder
from sskd.runs.spec import FromRun, RunSpec, StudentSpec
from sskd.training.setup import Setup
from sskd.training.tasks.stage import TrainingTask


def run_provenance(setup: Setup) -> dict[str, Any]:
    """Returns the provenance of the run: machine, versions and code, including plugins."""
    known = provenance(setup.device)
    return known | noted(setup.spec, known["dirty"])


def given_result(setup: Setup, task: TrainingTask) -> dict[str, Any]:
    """Evaluates a network with given weights and returns the result: epoch 0 is its best and its last."""
    started = time.perf_counter()
    measured = task.evaluate()
    seconds = time.perf_counter() - started
    row = {"epoch": 0, **{f"test_{name}": value for name, value in measured.items()}}
    return make_result(setup, task, {"best": row, "last": row}, run_provenance(setup), measured_with(setup)) | {
        "train_images": 0,
        "seconds": round(seconds, 1),
        "images_per_second": round(measured["images"] / seconds, 1),
    }


def make_result(
    setup: Setup,
    task: TrainingTask,
    rows: Mapping[str, dict[str, Any]],
    machine: dict[str, Any],
    compared_by: dict[str, Any],
) -> dict[str, Any]:
    """Returns the content of result.json (sskd/runs/records.py).

    rows: the epochs by role ("best", "last", "chosen"). machine: provenance of the run. compared_by: ``measured_with``
    of the run. Raises UserError if a measurement is not finite.
    """

    def measured(row: dict[str, Any]) -> dict[str, Any]:
        found = {name: value for name, value in row.items() if name.startswith(("test_", "held_out_", "epoch"))}
        bad = [name for name, value in found.items() if not math.isfinite(value)]
        if bad:
            raise UserError(
                f"{setup.spec.id}: {', '.join(bad)} of epoch {found['epoch']} not finite: the network's output is NaN "
                "or infinite in eval mode, although its losses in train mode are finite"
            )
        return found

    return {
        "schema": SCHEMA,
        "id": setup.spec.id,
        **{which: measured(row) for which, row in rows.items()},
        **task.final(),
        "parameters": sum(p.numel() for p in task.output.parameters()),
        "train_images": len(setup.split.indices),
        "precision": setup.precision,
        "machine": machine,
        "measured_with": compared_by,
        "finished": datetime.now(timezone.utc).isoformat(timespec="seconds"),
    }


# --- the comparability card: two runs are compared if these are equal -------------------------------------------------


def measured_with(setup: Setup) -> dict[str, Any]:
    """Returns the run's part of the comparability card (records.MeasuredWith)."""
    spec, data, execution = setup.spec, setup.data, setup.execution
    head = spec.head if isinstance(spec, StudentSpec) else None
    noted = MeasuredWith(
        network=network_sha256(spec.network, data.num_classes, spec.used_as),
        teacher=teacher_sha256(spec, setup.runs),
        head=file_sha256(RunFolder(setup.runs, head).weights("last")) if head else None,
        split=_tensors_sha256(setup.split.indices, setup.split.labels),
        pixels=_pixels_sha256(data) if isinstance(data, ImageData) else None,
        image_size=data.image_size,
        mean=list(data.mean),
        std=list(data.std),
        execution=ExecutedAs(
            channels_last=execution.channels_last, fold_teacher=execution.fold_teacher, compile=execution.compile
        ),
    )
    return noted.model_dump(mode="json")


def teacher_sha256(spec: RunSpec, runs: Path) -> str | None:
    """Returns the sha256 of the teacher's weights, the name of published weights, or None without a teacher."""
    if spec.teacher is None:
        return None
    if isinstance(spec.teacher, FromRun):
        return file_sha256(RunFolder(runs, spec.teacher.run).weights(spec.teacher.epoch))
    given = spec.teacher
    content = given.weights if given.published else given.sha256 or file_sha256(Path(given.weights))
    return f"{content} {given.which}" if given.which else content  # one file may hold several weights


@lru_cache(maxsize=1)  # runs of a process share their data
def _pixels_sha256(data: ImageData) -> str:
    return _tensors_sha256(data.train_images, data.test_images, data.test_labels)


def _tensors_sha256(*tensors: Tensor) -> str:
    digest = hashlib.sha256()
    for tensor in tensors:
        digest.update(f"{tuple(tensor.shape)}".encode())
        digest.update(tensor.cpu().contiguous().numpy().data)
    return digest.hexdigest()
