"""docs/results_format.md (``benchmarks.generated`` writes it), and every report's schema.json, from the types that the
files are read by."""

import typing
from typing import Any

from pydantic import BaseModel

from benchmarks.analysis.comparability import CardFile, Entry, Refusal
from benchmarks.records.merge import Source, Who
from benchmarks.records.record import Manifest
from sskd.runs.records import SCHEMA, Epoch, EpochRow, ExecutedAs, Machine, MeasuredWith, Result
from sskd.runs.trained import NetworkInfo

FILES: dict[str, type[BaseModel]] = {
    "runs/<id>/result.json": Result,
    "runs/<id>/metrics.jsonl": EpochRow,
    "runs/<id>/network.json": NetworkInfo,
    "runs/<id>/who.json": Who,
    "card.json": CardFile,
    "submission.json": Manifest,
}
PARTS = (Epoch, Machine, MeasuredWith, ExecutedAs, Source, Entry, Refusal)  # what these hold
HEAD = f"""# What a results folder holds

Made by `python -m benchmarks.generated` from the types that reports read these files by; a test holds it to them, and
reads the committed results by them. This is version {SCHEMA}: files name it
under `schema`. A file without it is of before, and is read all the same: keys that were added since may be absent, and
what is not recorded is not held against a run. A file of a newer version is refused with a line that says so. The same
as JSON schema is in every report's folder, in `schema.json`.

`results/<profile>/` has a report (a table as `.md`, `.csv`, `.tex`, figures, `claims.md`, `claims.csv`, `runs.csv`,
`parts.csv`, `curves.csv`, `curves.pdf`, `spent.csv`, `spent.md`, `card.md`, `card.json`, `schema.json`, `index.html`)
and `runs/<id>/`, a folder for each run: `spec.yaml`
(all that the run is; `run_all.py explain KEY` tells what a key means), `result.json`, `metrics.jsonl` (a line an
epoch), `network.json`, `best.safetensors`, `last.safetensors`, and of merged results `who.json`. A run's id is the hash
of its spec. What submissions hold besides: [verify.md](verify.md).
"""


def schema() -> dict[str, Any]:
    """schema.json: the JSON schema of every file, by its path."""
    files = {path: model.model_json_schema(by_alias=True) for path, model in FILES.items()}
    return {"schema": SCHEMA, "files": files}


def page() -> str:
    """The whole document."""
    parts = [_table(f"`{path}`", model) for path, model in FILES.items()]
    parts += [_table(f"{model.__name__}, a part of these", model) for model in PARTS]
    return "\n".join([HEAD, *parts])


def _table(title: str, model: type[BaseModel]) -> str:
    lines = [f"## {title}", "", "| key | type | meaning |", "| --- | --- | --- |"]
    for name, field in model.model_fields.items():
        meaning = " ".join((field.description or "").split())
        shown = _type(field.annotation).replace("|", "or")
        lines.append(f"| {field.alias or name} | {shown}{'' if field.is_required() else ', or absent'} | {meaning} |")
    return "\n".join(lines) + "\n"


def _type(annotation: Any) -> str:
    """A type as people write it: "float", "dict of str to int", "Epoch"."""
    origin, arguments = typing.get_origin(annotation), typing.get_args(annotation)
    if origin is typing.Annotated:
        return _type(arguments[0])
    if origin is typing.Literal:
        return " | ".join(f"`{value}`" for value in arguments)
    if origin is dict:
        return f"dict of {_type(arguments[0])} to {_type(arguments[1])}"
    if origin in (list, tuple):
        return f"list of {_type(arguments[0])}"
    kinds = [_type(each) for each in arguments if each is not type(None)]
    return " | ".join(kinds) if kinds else getattr(annotation, "__name__", str(annotation))
