"""What result.json holds: a run's numbers, and where they come from."""

import math
import time
from collections.abc import Mapping
from datetime import datetime, timezone
from typing import Any

from sskd.errors import UserError
from sskd.runs.plugins import noted
from sskd.runs.provenance import provenance
from sskd.runs.records import SCHEMA
from sskd.training.measured_with import measured_with
from sskd.training.run_state import RunState
from sskd.training.setup import Setup
from sskd.training.stage import TrainingTask


def run_provenance(setup: Setup) -> dict[str, Any]:
    """Machine, versions and code, the user's own files among it."""
    known = provenance(setup.device)
    return known | noted(setup.spec, known["dirty"])


def measure_given(setup: Setup, task: TrainingTask) -> dict[str, Any]:
    """The result of a network that is given: of its epoch 0, which is the best and the last."""
    started = time.perf_counter()
    measured = task.evaluate()
    seconds = time.perf_counter() - started
    row = {"epoch": 0, **{f"test_{name}": value for name, value in measured.items()}}
    return _result(setup, task, {"best": row, "last": row}, run_provenance(setup), measured_with(setup)) | {
        "train_images": 0,
        "seconds": round(seconds, 1),
        "images_per_second": round(measured["images"] / seconds, 1),
    }


def trained_result(run: RunState) -> dict[str, Any]:
    """The result of a run whose epochs are all done."""
    last = run.rows[-1]
    rows = {"best": run.best(), "last": last}
    if "held_out_top1" in last:
        rows["chosen"] = run.highest("held_out_top1")
    return _result(run.setup, run.task, rows, run.machine, run.measured_with) | {
        "seconds": round(sum(row["seconds"] + row["evaluation_seconds"] for row in run.rows), 1),
        "images_per_second": last["images_per_second"],
    }


def _result(
    setup: Setup,
    task: TrainingTask,
    rows: Mapping[str, dict[str, Any]],
    machine: dict[str, Any],
    compared_by: dict[str, Any],
) -> dict[str, Any]:
    """A run's numbers and where they come from (sskd/runs/records.py). ``rows``: its epochs by what they are ("best",
    "last"), never mixed: a key each."""

    def measured(row: dict[str, Any]) -> dict[str, Any]:
        found = {name: value for name, value in row.items() if name.startswith(("test_", "held_out_", "epoch"))}
        bad = [name for name, value in found.items() if not math.isfinite(value)]
        if bad:
            raise UserError(
                f"{setup.spec.id}: {', '.join(bad)} of epoch {found['epoch']} not finite: what the network computes in "
                "eval mode is NaN or infinite, while its losses in train mode are finite"
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
