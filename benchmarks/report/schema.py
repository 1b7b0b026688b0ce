"""Types of the files in a results folder, for every report's schema.json and for docs/results_format.md."""

from typing import Any

from pydantic import BaseModel

from benchmarks.analysis.comparability import ComparabilityFile
from benchmarks.records.merge import Who
from benchmarks.records.record import Manifest
from benchmarks.tuning.studies import StudyFile
from sskd.runs.records import SCHEMA, EpochRow, Result
from sskd.runs.trained import NetworkInfo

FILES: dict[str, type[BaseModel]] = {
    "runs/<id>/result.json": Result,
    "runs/<id>/metrics.jsonl": EpochRow,
    "runs/<id>/network.json": NetworkInfo,
    "runs/<id>/who.json": Who,
    "card.json": ComparabilityFile,
    "tuning/<benchmark>/<method>/study-<r>.json": StudyFile,
    "submission.json": Manifest,
}


def schema() -> dict[str, Any]:
    """Returns schema.json: the JSON schema of every file, by its path."""
    files = {path: model.model_json_schema(by_alias=True) for path, model in FILES.items()}
    return {"schema": SCHEMA, "files": files}
