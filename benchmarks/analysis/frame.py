"""Reads run folders into one pandas frame, the only source of tables, figures, claims and the page."""

import contextlib
import json
import math
import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from benchmarks.analysis.comparability_fields import comparability_columns
from benchmarks.planning.staleness import changed_since
from benchmarks.records.merge import who_columns
from benchmarks.tables.cell import Cell
from sskd.config.recipe import SplitSpec
from sskd.data.datasets.registry import DATASETS, PUBLISHED_DATASETS
from sskd.errors import UserError
from sskd.runs.records import Epoch, read_result
from sskd.runs.run_folder import RunFolder
from sskd.runs.spec import FromRun, RunSpec, StudentSpec, with_ancestors

EPOCHS = ("best", "last", "chosen")
MEASURED = (*Epoch.model_fields, "held_out_images")  # keys of an epoch in result.json
RUN_COLUMNS = ("kl", "cka", "seconds", "images_per_second", "parameters", "train_images", "precision", "finished")
MACHINE_COLUMNS = (
    *("host", "device", "driver", "threads", "python", "torch", "torchvision"),
    *("version", "commit", "dirty"),
)


def results_frame(cells: Mapping[str, Iterable[Cell]], runs: Path) -> pd.DataFrame:
    """Returns one row per cell, in the benchmarks' order, and one per ancestor that is in no cell (benchmark "").

    Columns: benchmark, row, column, pair (published), run_pair, seed, id, the properties of the spec that tables and
    claims use, state ("finished", "failed", "incomplete", "absent") and why (the reason of a missing number). For
    finished runs also: changed (why the code is not today's, or ""), best_*, last_* and, with a validation set,
    chosen_* of every measure with its epoch, *_held_out_* (on the validation set), and the machine. A failed student
    has the accuracy of chance.
    """
    present = {entry.name for entry in os.scandir(runs)} if runs.is_dir() else set()
    known: dict[str, dict[str, object]] = {}

    def of_run(spec: RunSpec) -> dict[str, object]:
        if spec.id not in known:
            columns = _run_columns(spec, runs, spec.id in present)
            if columns["state"] == "absent":
                lost = [needed.id for needed in spec.dependencies if of_run(needed)["state"] == "failed"]
                columns["why"] = f"not run: it needs {lost[0]}, which failed" if lost else "not run"
            known[spec.id] = _spec_columns(spec) | columns
        return known[spec.id]

    rows: list[dict[str, object]] = []
    for benchmark, group in cells.items():
        # a run that a profile lists twice counts once
        once = {(cell.row, cell.column, cell.spec.id): cell for cell in group}
        for cell in once.values():
            place = {"benchmark": benchmark, "row": cell.row, "column": cell.column}
            place |= {"pair": cell.pair, "run_pair": cell.run_pair}
            rows.append(place | of_run(cell.spec))
    in_cells = {row["id"] for row in rows}
    for spec in specs_of(cells).values():
        if spec.id not in in_cells:
            place = {"benchmark": "", "row": spec.role.capitalize(), "column": "", "pair": "", "run_pair": ""}
            rows.append(place | of_run(spec))
    return pd.DataFrame(rows)


def specs_of(cells: Mapping[str, Iterable[Cell]]) -> dict[str, RunSpec]:
    """Returns the runs of all cells and their ancestors, by id."""
    return with_ancestors(cell.spec for group in cells.values() for cell in group)


def _spec_columns(spec: RunSpec) -> dict[str, object]:
    return {
        "seed": spec.seed,
        "id": spec.id,
        "role": spec.role,
        "network": spec.network,
        "dataset": spec.dataset.name,
        "epochs": spec.recipe.epochs,
        "fraction": spec.split.fraction,
        "noise": spec.split.noise,
        "split_seed": str(spec.split.seed) if spec.split != SplitSpec(seed=spec.split.seed) else "",
        "teacher": _teacher_name(spec),
        "head": spec.head.id if isinstance(spec, StudentSpec) and spec.head else "",
    }


def _teacher_name(spec: RunSpec) -> str:
    """Returns the teacher's run or weights; "" for none."""
    if isinstance(spec.teacher, FromRun):
        return spec.teacher.run.id
    return (spec.teacher.sha256 or spec.teacher.weights) if spec.teacher else ""


def _run_columns(spec: RunSpec, runs: Path, present: bool) -> dict[str, object]:
    if not present:
        return {"state": "absent"}
    folder = RunFolder(runs, spec)
    try:
        if folder.is_finished():
            result = read_result(folder.result, spec.role)
            known: dict[str, object] = {"state": "finished", "why": "", "changed": changed_since(spec, result)}
            known["weights"] = folder.weights_problem() if spec.trains else ""
            return known | _result_columns(result) | comparability_columns(spec, result) | who_columns(folder.path)
        status = folder.status()
    except UserError as error:  # a damaged file only affects its cell
        return {"state": "failed", "why": f"failed: {error}"}
    except (OSError, ValueError, AttributeError) as error:  # files of an unfinished run
        return {"state": "failed", "why": f"failed: cannot read {folder.path}: {type(error).__name__}"}
    if status.state == "failed":
        return {"state": "failed", "why": f"failed: {status.message}"} | _chance_columns(spec)
    epochs = spec.recipe.epochs
    return {"state": "incomplete", "why": f"running or interrupted: {100 * min(status.epoch, epochs) // epochs} %"}


def _chance_columns(spec: RunSpec) -> dict[str, object]:
    """Returns chance accuracies for a failed student, because omitting it would favour methods that diverge. Empty for
    a data set with an unknown number of classes."""
    if not isinstance(spec, StudentSpec) or spec.dataset.name not in DATASETS:
        return {}
    published = PUBLISHED_DATASETS.get(spec.dataset.name)  # filled by the import that the registry has just made
    if published is None:
        return {}
    chance = 100 / published.info.num_classes
    epochs = EPOCHS if spec.split.holdout else ("best", "last")
    return {f"{which}_{name}": share * chance for which in epochs for name, share in (("top1", 1), ("top5", 5))}


def _result_columns(result: dict[str, Any]) -> dict[str, object]:
    columns: dict[str, object] = {}
    for which in EPOCHS:
        measured = result.get(which, {})
        columns |= {f"{which}_{name.removeprefix('test_')}": measured[name] for name in MEASURED if name in measured}
    columns |= {name: result[name] for name in RUN_COLUMNS if name in result}
    return columns | {name: result.get("machine", {}).get(name) for name in MACHINE_COLUMNS}


def read_epochs(metrics: Path) -> np.ndarray:
    """Returns the evaluated epochs of a metrics.jsonl (n, 5): number over all stages, epoch of the stage, seconds so
    far (training and evaluation), accuracy on test and on validation images in percent; nan without validation images.

    Returns no epochs if a line is damaged, except an incomplete last line, because its seconds would be missing in all
    later ones.
    """
    epochs, seconds = [], 0.0
    try:
        *whole, last = metrics.read_bytes().splitlines()
        rows = [json.loads(line) for line in whole]
        with contextlib.suppress(ValueError):
            rows.append(json.loads(last))
        for number, row in enumerate(rows, start=1):
            seconds += row.get("seconds", 0.0) + row.get("evaluation_seconds", 0.0)
            top1 = row.get("test_top1", row.get("test_head_top1"))
            if top1 is not None:
                epochs.append((number, row.get("epoch", number), seconds, top1, row.get("held_out_top1", math.nan)))
        found = np.array(epochs, dtype=float).reshape(-1, 5)
    except (OSError, ValueError, TypeError, AttributeError, RecursionError):
        return np.empty((0, 5))
    return found if np.isfinite(found[:, :4]).all() else found[:0]


def curve_of(epochs: np.ndarray, points: int = 60) -> np.ndarray:
    """Returns a run's curve (n, 3): epoch, accuracy on test and on validation images. At most about ``points`` epochs,
    always including the last. epochs: from read_epochs."""
    numbers = epochs[:, 0]
    step = -(-numbers.max(initial=1) // points)
    return epochs[(numbers.max(initial=1) - numbers) % step == 0][:, [1, 3, 4]]
