"""From run folders to one pandas frame. Tables, figures, claims and the page are made from that frame alone."""

import json
import os
from collections.abc import Iterable, Mapping
from pathlib import Path

import pandas as pd

from benchmarks.base import Cell
from sskd.config import RunSpec
from sskd.errors import UserError
from sskd.folder import RunFolder, read_json

RESULT_COLUMNS = ("top1", "top5", "loss", "head_top1")
RUN_COLUMNS = ("kl", "cka", "seconds", "images_per_second", "parameters", "train_images", "precision", "finished")
MACHINE_COLUMNS = (
    "host",
    "device",
    "driver",
    "threads",
    "python",
    "torch",
    "torchvision",
    "version",
    "commit",
    "dirty",
)


def results_frame(cells: Mapping[str, Iterable[Cell]], runs: Path) -> pd.DataFrame:
    """One row for each benchmark's cell, in the benchmarks' order, and one for each run that they need (benchmark "").

    Columns: benchmark, row, column, pair (published), run_pair, seed, id, what of the spec tables and claims ask for,
    state ("finished", "failed", "incomplete", "absent"), why (a cell has no number), and of finished
    runs best_* and last_* of every measure, each with its epoch, and where and how the run was done.
    """
    present = {entry.name for entry in os.scandir(runs)} if runs.is_dir() else set()
    known: dict[str, dict[str, object]] = {}

    def of_run(spec: RunSpec) -> dict[str, object]:
        if spec.id not in known:
            columns = _run_columns(spec, runs, spec.id in present)
            if columns["state"] == "absent":
                lost = [needed.id for needed in spec.needs if of_run(needed)["state"] == "failed"]
                columns["why"] = f"not run: it needs {lost[0]}, which failed" if lost else "not run"
            known[spec.id] = _spec_columns(spec) | columns
        return known[spec.id]

    rows: list[dict[str, object]] = []
    needed: dict[str, RunSpec] = {}
    for benchmark, group in cells.items():
        for cell in group:
            place = {"benchmark": benchmark, "row": cell.row, "column": cell.column}
            place |= {"pair": cell.pair, "run_pair": cell.run_pair}
            rows.append(place | of_run(cell.spec))
            _add_needs(cell.spec, needed)
    in_cells = {row["id"] for row in rows}
    for spec in needed.values():
        if spec.id not in in_cells:
            place = {"benchmark": "", "row": spec.role.capitalize(), "column": "", "pair": "", "run_pair": ""}
            rows.append(place | of_run(spec))
    return pd.DataFrame(rows)


def specs_of(cells: Mapping[str, Iterable[Cell]]) -> dict[str, RunSpec]:
    """Every run of the cells and what they need, by id, each once."""
    specs: dict[str, RunSpec] = {}
    for group in cells.values():
        for cell in group:
            _add_needs(cell.spec, specs)
            specs.setdefault(cell.spec.id, cell.spec)
    return specs


def _add_needs(spec: RunSpec, needed: dict[str, RunSpec]) -> None:
    for other in spec.needs:
        if other.id not in needed:
            _add_needs(other, needed)
            needed[other.id] = other


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
    }


def _run_columns(spec: RunSpec, runs: Path, present: bool) -> dict[str, object]:
    if not present:
        return {"state": "absent"}
    folder = RunFolder(runs, spec)
    try:
        status = folder.status()
        if status.state == "finished":
            return {"state": "finished", "why": ""} | _result_columns(read_json(folder.result))
    except UserError as error:  # a damaged file is one cell's trouble, not the report's
        return {"state": "failed", "why": f"failed: {error}"}
    if status.state == "failed":
        return {"state": "failed", "why": f"failed: {status.message}"}
    epochs = spec.recipe.epochs
    return {"state": "incomplete", "why": f"running or interrupted: {100 * min(status.epoch, epochs) // epochs} %"}


def _result_columns(result: dict[str, dict[str, object]]) -> dict[str, object]:
    columns: dict[str, object] = {}
    for which in ("best", "last"):
        columns[f"{which}_epoch"] = result[which]["epoch"]
        for name in RESULT_COLUMNS:
            if f"test_{name}" in result[which]:
                columns[f"{which}_{name}"] = result[which][f"test_{name}"]
    columns |= {name: result[name] for name in RUN_COLUMNS if name in result}
    return columns | {name: result.get("machine", {}).get(name) for name in MACHINE_COLUMNS}


def read_curve(metrics: Path, points: int = 60) -> list[tuple[int, float]]:
    """(epoch, test accuracy) of a run, in percent: at most about ``points`` epochs, the last always among them.

    Only the lines that are shown are parsed: a report reads thousands of these files.
    """
    try:
        lines = metrics.read_bytes().splitlines()
    except OSError:
        return []
    step = max(1, -(-len(lines) // points))
    curve = []
    for index in range((len(lines) - 1) % step, len(lines), step):
        try:
            row = json.loads(lines[index])
        except ValueError:  # a line cut off by a crash
            continue
        value = row.get("test_top1", row.get("test_head_top1"))
        if value is not None:
            curve.append((int(row["epoch"]), float(value)))
    return curve
