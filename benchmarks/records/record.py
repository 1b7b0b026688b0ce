"""A submission as it is read: typed, with limits, and in this place alone. Whoever made it may have written anything.

What cannot be read is a UserError (exit status 2); what can be read and is not so is a verdict (status 1).
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
MOST_EPOCHS = 9999  # of all stages: states are numbered by four digits
MOST_THREADS = 4096  # as execution.threads

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
    """submission.json."""

    version: Annotated[int, Field(ge=1)]
    """Of this format."""
    run: Annotated[str, Field(min_length=1, max_length=255)]
    """The run's id."""
    files: Annotated[dict[FileName, Sha256], Field(max_length=20)]
    """sha256 by path, of all files but the states."""
    states: Annotated[dict[str, Sha256], Field(min_length=1, max_length=MOST_EPOCHS)]
    """Hash of the state after every epoch (sskd/runs/epoch_state.py), by the file's name."""

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
        """The submission's hash: the sha256 of submission.json as ``submit`` writes it. Its owner can change nothing
        that is committed to without changing this."""
        return hashlib.sha256(json_bytes(self.model_dump(mode="json"))).hexdigest()

    @property
    def epochs(self) -> int:
        """How many states are committed to."""
        return len(self.states)


class ClaimedRow(EpochRow):
    """A line of metrics.jsonl: beside the named keys single values alone."""

    model_config = ConfigDict(extra="allow")
    __pydantic_extra__: dict[str, MayBeNan | int | str | bool | None]

    stage: Annotated[str, Field(min_length=1, max_length=100)]
    epoch: Annotated[int, Field(ge=1, le=MOST_EPOCHS)]


# of result.json: what a replay is done, and compared, by
RECORDED: tuple[str, ...] = ("id", "machine.device", "machine.cpu_capability", "machine.torch", "machine.threads")
RECORDED += tuple(f"measured_with.{key}" for key in ("split", "image_size", "mean", "std", "execution"))
RESULT, ROW = TypeAdapter(Result), TypeAdapter(ClaimedRow)


class Submission(NamedTuple):
    """A submission, read. Of the best, last and chosen epochs and of the machine the types are checked."""

    folder: Path
    manifest: Manifest
    spec: RunSpec
    rows: list[dict[str, Any]]
    result: dict[str, Any]

    def state_path(self, epochs: int) -> Path:
        """Where the state after so many epochs is, if it is opened."""
        return self.folder / "epochs" / state_name(epochs)

    @property
    def numbers(self) -> dict[str, int]:
        """Of best, last and chosen, as far as there are such: after how many epochs of all stages each is."""
        return numbers_of(self.rows, self.result)


def state_name(epochs: int) -> str:
    """The name of the file of the state after so many epochs of all stages."""
    return f"{epochs:04d}.safetensors"


def numbers_of(rows: list[dict[str, Any]], result: dict[str, Any]) -> dict[str, int]:
    """Of a result's best, last and chosen epochs, as far as there are such: after how many epochs of all stages."""
    before = sum(row["stage"] != "main" for row in rows)
    return {which: before + result[which]["epoch"] for which in ("best", "last", "chosen") if result.get(which)}


def read_manifest(folder: Path) -> Manifest:
    """UserError where there is none, it is malformed, or it is of a newer version."""
    if not kind_of_entry(folder / MANIFEST):
        raise UserError(f"{folder} is no submission: there is no {MANIFEST} in it (run_all.py submit makes one)")
    data = _json(folder / MANIFEST)
    if isinstance(data, dict) and isinstance(version := data.get("version"), int) and version > SCHEMA:
        raise UserError(f"{folder} is of version {version} of the format; this suite reads up to {SCHEMA}")
    manifest: Manifest = from_dict(Manifest, data, str(folder / MANIFEST))
    return manifest


def read_submission(folder: Path, manifest: Manifest, root: Path) -> Submission:
    """All of a submission but its tensors. UserError names the file that is malformed, or says why nothing of it can
    be replayed. Weights that the spec names by a file are looked for in ``root`` too."""
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
        raise UserError(f"{path} lacks {missing[0]}, by which a replay is done")
    if checked.precision not in ("fp32", "bf16", "fp16"):
        raise UserError(f"{path}: the precision {checked.precision!r} is none that is known")
    if not 1 <= (checked.machine.threads or 0) <= MOST_THREADS:
        raise UserError(f"{path}: {checked.machine.threads} threads are more than any machine has, or none")
    return result


def refuse_what_cannot_be_replayed(spec: RunSpec, result: dict[str, Any]) -> None:
    """UserError for a run whose replay would take no bounded time here: of several processes, or compiled."""
    if spec.recipe.processes > 1:
        raise UserError(f"{spec.id} was trained by {spec.recipe.processes} processes: a replay is of one process alone")
    mode = (result.get("measured_with", {}).get("execution") or {}).get("compile", "off")
    if mode != "off":
        raise UserError(f"{spec.id} was trained with execution.compile={mode}: only what is not compiled is replayed")
    if spec.recipe.epochs > MOST_EPOCHS:
        raise UserError(f"{spec.id} has {spec.recipe.epochs} epochs: a record has {MOST_EPOCHS} at most")


def _rows(path: Path) -> list[dict[str, Any]]:
    lines = read_plain(path).splitlines()
    if len(lines) > MOST_EPOCHS:
        raise UserError(f"{path} has {len(lines)} lines: a record has {MOST_EPOCHS} at most")
    rows = []
    for number, line in enumerate(lines, start=1):
        rows.append(_parsed(line, f"{path}, line {number}"))
        from_dict(ROW, rows[-1], f"{path}, line {number}")
    return rows


def read_plain_spec(path: Path) -> RunSpec:
    """The spec in a file that somebody else made. UserError for anything but a plain file with a spec in it."""
    try:
        text = read_plain(path, 2**20).decode()
    except UnicodeDecodeError:
        raise UserError(f"cannot read {path}: it is no UTF-8 text") from None
    return parse_spec(parse_yaml(text, str(path)), str(path))


def _json(path: Path) -> Any:
    return _parsed(read_plain(path), str(path))


def _parsed(text: bytes, where: str) -> Any:
    try:
        data = json.loads(text)
        refuse_strange_values(data)
    except (UserError, ValueError, RecursionError) as error:  # ValueError: not JSON, or not UTF-8
        raise UserError(f"cannot read {where}: {one_line(error)}") from None
    return data


def needed_weights(spec: RunSpec) -> list[tuple[RunSpec, str]]:
    """The runs whose weights a run learns from, each with the epoch that it takes."""
    found: list[tuple[RunSpec, str]] = []
    if isinstance(spec.teacher, FromRun):
        found.append((spec.teacher.run, spec.teacher.epoch))
    if isinstance(spec, StudentSpec) and spec.head is not None:
        found.append((spec.head, "last"))
    return found


def with_weights_from(spec: RunSpec, root: Path) -> RunSpec:
    """The spec, where it names weights, or labels, by a path at which no file is, with those of the same name in
    ``root``. The id does not follow the path of a file whose sha256 is given. UserError where the spec names a device,
    FIFO or socket as weights, labels or images."""

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
