"""Reads a submission: typed, with limits, because its content is not trusted. No other module parses it.

An unreadable submission raises UserError (exit status 2); a readable one with false content gets a verdict (status 1).
"""

import hashlib
import json
from operator import attrgetter
from pathlib import Path
from typing import Annotated, Any, NamedTuple

from pydantic import ConfigDict, Field, TypeAdapter, model_validator

from benchmarks.records.plain import kind_of_entry, read_plain
from sskd.config.fields import StrictModel
from sskd.config.validation import from_dict
from sskd.config.yaml import parse_yaml, refuse_strange_values
from sskd.errors import UserError
from sskd.runs.files import json_bytes, one_line
from sskd.runs.records import SCHEMA, EpochRow, MayBeNan, MeasuredWith, Result
from sskd.runs.spec import FromRun, RunSpec, StudentSpec, parse_spec

MANIFEST = "submission.json"
VERDICT = "verdict.json"
WEIGHTS = ("best.safetensors", "last.safetensors")
REQUIRED = ("spec.yaml", "result.json", "metrics.jsonl", *WEIGHTS)
FILES = (*REQUIRED, "network.json")
MOST_EPOCHS = 9999  # maximum over all stages: states have four digits
MOST_THREADS = 4096  # as in execution.threads

FileName = Annotated[
    str,
    Field(
        max_length=300,
        pattern=r"^((spec\.yaml|(result|network)\.json|metrics\.jsonl|(best|last)\.safetensors)"
        r"|needs/[^/\\:.\-][^/\\:]*/(spec\.yaml|result\.json|(best|last)\.safetensors))$",
    ),
]
Sha256 = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]


class Manifest(StrictModel):
    """submission.json: hashes of the files and states of a submission, to which its owner commits."""

    version: Annotated[int, Field(ge=1)]
    """Version of the format."""
    run: Annotated[str, Field(min_length=1, max_length=255)]
    """Id of the run."""
    files: Annotated[dict[FileName, Sha256], Field(max_length=20)]
    """sha256 by path, for all files except the states."""
    states: Annotated[dict[str, Sha256], Field(min_length=1, max_length=MOST_EPOCHS)]
    """Hash of the state after every epoch (sskd/runs/epoch_state.py), by file name."""

    @model_validator(mode="after")
    def _complete(self) -> "Manifest":
        if list(self.states) != [state_name(number) for number in range(1, len(self.states) + 1)]:
            raise ValueError(f"'states' are not {state_name(1)} and all that follow it, in order")
        missing = [name for name in REQUIRED if name not in self.files]
        if missing:
            raise ValueError(f"'files' lacks {missing[0]}")
        return self

    @property
    def commitment(self) -> str:
        """Returns the submission's hash: the sha256 of submission.json. The owner cannot change any committed content
        without changing it."""
        return hashlib.sha256(json_bytes(self.model_dump(mode="json"))).hexdigest()

    @property
    def epochs(self) -> int:
        """Returns the number of committed states."""
        return len(self.states)


class ClaimedRow(EpochRow):
    """A line of metrics.jsonl; additional keys must have scalar values."""

    model_config = ConfigDict(extra="allow")
    __pydantic_extra__: dict[str, MayBeNan | int | str | bool | None]

    stage: Annotated[str, Field(min_length=1, max_length=100)]
    epoch: Annotated[int, Field(ge=1, le=MOST_EPOCHS)]


# keys of result.json that a replay needs
RECORDED: tuple[str, ...] = ("id", "machine.device", "machine.cpu_capability", "machine.torch", "machine.threads")
RECORDED += tuple(f"measured_with.{key}" for key in ("split", "image_size", "mean", "std", "execution"))
RESULT, ROW = TypeAdapter(Result), TypeAdapter(ClaimedRow)


class Submission(NamedTuple):
    """A submission that was read. Only the types of its content are checked."""

    folder: Path
    manifest: Manifest
    spec: RunSpec
    rows: list[dict[str, Any]]
    result: dict[str, Any]


def state_name(epochs: int) -> str:
    """Returns the file name of the state after ``epochs`` epochs of all stages."""
    return f"{epochs:04d}.safetensors"


def numbers_of(rows: list[dict[str, Any]], result: dict[str, Any]) -> dict[str, int]:
    """Returns the number of epochs (over all stages) after which a result's best, last and chosen epochs end."""
    before = sum(row["stage"] != "main" for row in rows)
    return {which: before + result[which]["epoch"] for which in ("best", "last", "chosen") if result.get(which)}


def read_manifest(folder: Path) -> Manifest:
    """Returns the content of submission.json. Raises UserError if it is missing, malformed, or of a newer version."""
    if not kind_of_entry(folder / MANIFEST):
        raise UserError(f"{folder} is not a submission: it has no {MANIFEST} (run_all.py submit writes one)")
    data = _json(folder / MANIFEST)
    if isinstance(data, dict) and isinstance(version := data.get("version"), int) and version > SCHEMA:
        raise UserError(f"{folder} has version {version} of the format; this suite reads up to {SCHEMA}")
    manifest: Manifest = from_dict(Manifest, data, str(folder / MANIFEST))
    return manifest


def read_submission(folder: Path, manifest: Manifest, root: Path) -> Submission:
    """Returns a submission without its tensors. Raises UserError if a file is malformed or the run cannot be replayed.
    Weights that the spec names by a file are also searched in ``root``."""
    spec = with_weights_from(read_plain_spec(folder / "spec.yaml"), root)
    result = _result(folder / "result.json")
    refuse_what_cannot_be_replayed(spec, result)
    return Submission(folder, manifest, spec, _rows(folder / "metrics.jsonl"), result)


def _result(path: Path) -> dict[str, Any]:
    result: dict[str, Any] = _json(path)
    checked: Result = from_dict(RESULT, result, str(path))
    missing = [key for key in RECORDED if not attrgetter(key)(checked)]
    missing += sorted(MeasuredWith.model_fields.keys() - result.get("measured_with", {}).keys())
    if missing:
        raise UserError(f"{path} lacks {missing[0]}, which a replay needs")
    if checked.precision not in ("fp32", "bf16", "fp16"):
        raise UserError(f"{path}: unknown precision {checked.precision!r}")
    if not 1 <= (checked.machine.threads or 0) <= MOST_THREADS:
        raise UserError(f"{path}: {checked.machine.threads} threads; expected 1 to {MOST_THREADS}")
    return result


def refuse_what_cannot_be_replayed(spec: RunSpec, result: dict[str, Any]) -> None:
    """Raises UserError for a run that cannot be replayed: with several processes, compiled, or with too many epochs."""
    if spec.recipe.processes > 1:
        raise UserError(
            f"{spec.id} was trained by {spec.recipe.processes} processes: only runs of one process can be replayed"
        )
    mode = (result.get("measured_with", {}).get("execution") or {}).get("compile", "off")
    if mode != "off":
        raise UserError(
            f"{spec.id} was trained with execution.compile={mode}: only runs without compilation can be replayed"
        )
    if spec.recipe.epochs > MOST_EPOCHS:
        raise UserError(f"{spec.id} has {spec.recipe.epochs} epochs: the maximum is {MOST_EPOCHS}")


def _rows(path: Path) -> list[dict[str, Any]]:
    lines = read_plain(path).splitlines()
    if len(lines) > MOST_EPOCHS:
        raise UserError(f"{path} has {len(lines)} lines: the maximum is {MOST_EPOCHS}")
    rows = []
    for number, line in enumerate(lines, start=1):
        rows.append(_parsed(line, f"{path}, line {number}"))
        from_dict(ROW, rows[-1], f"{path}, line {number}")
    return rows


def read_plain_spec(path: Path) -> RunSpec:
    """Reads a spec from other people. Raises UserError for anything but a regular file with a valid spec."""
    try:
        text = read_plain(path, 2**20).decode()
    except UnicodeDecodeError:
        raise UserError(f"cannot read {path}: it is not UTF-8") from None
    return parse_spec(parse_yaml(text, str(path)), str(path))


def _json(path: Path) -> Any:
    return _parsed(read_plain(path), str(path))


def _parsed(text: bytes, where: str) -> Any:
    try:
        data = json.loads(text)
        refuse_strange_values(data)
    except (UserError, ValueError, RecursionError) as error:  # ValueError: neither JSON nor UTF-8
        raise UserError(f"cannot read {where}: {one_line(error)}") from None
    return data


def needed_weights(spec: RunSpec) -> list[tuple[RunSpec, str]]:
    """Returns the runs whose weights a run needs, each with the epoch of the weights."""
    found: list[tuple[RunSpec, str]] = []
    if isinstance(spec.teacher, FromRun):
        found.append((spec.teacher.run, spec.teacher.epoch))
    if isinstance(spec, StudentSpec) and spec.head is not None:
        found.append((spec.head, "last"))
    return found


def with_weights_from(spec: RunSpec, root: Path) -> RunSpec:
    """Replaces paths of weights or labels that do not exist by files of the same name in ``root``. The id of a run does
    not depend on the path of a file with a given sha256. Raises UserError if the spec names a device, FIFO or
    socket."""

    def moved(value: Any) -> Any:
        if isinstance(value, dict):
            value = {key: moved(item) for key, item in value.items()}
            for key in ("weights", "file", "path"):
                _refuse_endless(value.get(key))
            key = "weights" if "weights" in value else "file"
            if value.get("sha256") and key in value and not Path(str(value.get(key))).is_file():
                value[key] = str(root / Path(str(value[key])).name)
                _refuse_endless(value[key])
        return value

    return parse_spec(moved(spec.model_dump(mode="json", exclude_none=True)), spec.id)


def _refuse_endless(place: Any) -> None:
    if isinstance(place, str):
        path = Path(place).expanduser()
        if path.exists() and not (path.is_file() or path.is_dir()):
            raise UserError(f"the spec names {place}, which is neither a file nor a folder")
