"""From run folders to one pandas frame. Tables, figures, claims and pages are made from that frame alone."""

from collections.abc import Iterable
from pathlib import Path

import pandas as pd

from benchmarks.base import Cell
from sskd.folder import RunFolder, read_json

RESULT_COLUMNS = ("top1", "top5", "loss", "head_top1")


def results_frame(cells: Iterable[Cell], runs: Path) -> pd.DataFrame:
    """One row a cell: row, column, seed, id, state, why, and of finished runs best_* and last_* of every measure,
    each with its epoch. Unfinished runs have the measures missing and ``why`` filled."""
    rows = []
    for cell in cells:
        row: dict[str, object] = {
            "row": cell.row,
            "column": cell.column,
            "seed": None,
            "id": None,
            "state": "not a run",
            "why": "",
        }
        if cell.spec is not None:
            row |= {"seed": cell.spec.seed, "id": cell.spec.id} | _run_row(RunFolder(runs, cell.spec))
        rows.append(row)
    return pd.DataFrame(rows)


def _run_row(folder: RunFolder) -> dict[str, object]:
    status = folder.status()
    row: dict[str, object] = {"state": status.state, "why": ""}
    if status.state == "finished":
        result = read_json(folder.result)
        for which in ("best", "last"):
            row[f"{which}_epoch"] = result[which]["epoch"]
            for name in RESULT_COLUMNS:
                if f"test_{name}" in result[which]:
                    row[f"{which}_{name}"] = result[which][f"test_{name}"]
        row |= {name: result[name] for name in ("seconds", "images_per_second", "kl", "cka") if name in result}
    elif status.state == "failed":
        row["why"] = f"failed: {status.message}"
    elif status.state == "incomplete":
        epochs = folder.spec.recipe.epochs
        row["why"] = f"running or interrupted: {100 * min(status.epoch, epochs) // epochs} %"
    else:
        row["why"] = "not run"
    return row
