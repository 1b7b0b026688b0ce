"""Merges several people's results into one folder: ``run_all.py merge alice=DIR bob=DIR --results OUT``.

The files of each run are copied, together with who.json, which names the person and the machine. Links are not
followed. Equal results count once. If a run has two different results, the first one stays, the other is stored in
conflicts/<name>/<id> next to runs/, and reports show both.
"""

import json
import os
import re
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Annotated, Any

from pydantic import Field, ValidationError

from benchmarks.records.plain import copy_plain, kind_of_entry, read_plain
from benchmarks.records.record import FILES, read_plain_spec
from sskd.config.fields import check_plain_name
from sskd.errors import UserError
from sskd.runs.files import plain_os_errors, write_json
from sskd.runs.records import SCHEMA, Record, read_result

WHO = "who.json"
HERE = "here"  # owner of the results that are already in the folder
# keys that define a result: two results are equal if these are
NUMBERS = ("best", "last", "chosen", "kl", "cka", "parameters", "train_images", "precision")
COPIED = re.compile("|".join(map(re.escape, (*FILES, WHO, "log.txt"))) + r"|probe-[^/]+\.json")


class Source(Record):
    """Owner of a run's result, and the machine."""

    name: str
    """Name given to ``merge``, or the folder's name."""
    host: str | None = None
    """Name of the machine."""
    device: str | None = None
    """Processor or GPU."""
    last: float | None = None
    """Top-1 accuracy of the last epoch in percent; for a head, accuracy of its pretext task."""
    folder: str | None = None
    """Folder of a result that is not used, relative to the profile's folder."""


class Who(Record):
    """who.json: owners of a merged run."""

    schema_version: Annotated[int, Field(alias="schema", le=SCHEMA)] = SCHEMA
    """Version of this format."""
    who: list[Source]
    """Owners of this result; the files are the first one's."""
    conflicts: list[Source] = []
    """Owners of other results of the same run."""


def read_who(run: Path) -> Who | None:
    """Reads who.json of a run's folder; None if it is missing or damaged."""
    try:
        return Who.model_validate(json.loads(read_plain(run / WHO)))
    except (UserError, ValueError, RecursionError, ValidationError):
        return None


def merge(sources: Sequence[str], target: Path, profile: str, log: Callable[[str], None] = print) -> None:
    """Copies the finished runs of every source ("DIR" or "NAME=DIR") into ``target``/runs; target: a profile's folder.
    Raises UserError for a source without finished runs."""
    for source in sources:
        name, place = named(source)
        place = os.path.expanduser(place)
        runs = _runs_folder(Path(place), profile)
        if runs.resolve() == (target / "runs").resolve():
            raise UserError(f"merge {source}: source and target are the same folder")
        name = name or _plain(
            Path(place).resolve().name, f"merge {source}: give a name with NAME=DIR, because of DIR's own name"
        )
        counts = {"new": 0, "equal": 0, "in conflict": 0}
        for run in sorted(path for path in runs.iterdir() if kind_of_entry(path / "result.json")):
            try:
                counts[_add(run, target, name)] += 1
            except UserError as error:  # the other folders are still merged
                log(f"omitted: {error}")
        log(f"{name}, {runs}: " + ", ".join(f"{count} {kind}" for kind, count in counts.items()))


def named(source: str) -> tuple[str, str]:
    """Splits "NAME=DIR"; the name is "" for "DIR". An existing path (/data/lr=0.1) is always a DIR. Raises UserError
    for an invalid name."""
    name, equals, place = source.partition("=")
    if not equals or os.path.exists(source):
        return "", source
    if not place:
        raise UserError(f"merge {source}: the folder is missing after NAME=")
    return _plain(name, f"merge {source}: there is no such folder, and as NAME=DIR:"), place


def _plain(name: str, where: str) -> str:
    """Returns ``name`` unchanged. Raises UserError, which begins with ``where``, if it is not a plain file name."""
    try:
        return check_plain_name(name)
    except ValueError as error:
        raise UserError(f"{where} {error}") from None


def _runs_folder(place: Path, profile: str) -> Path:
    """Returns the folder of the run folders: in a profile's results, in all results, or the folder itself. Does not
    follow links below ``place``."""
    for folder in (place / "runs", place / profile / "runs", place):
        below = [parent for parent in (folder, folder.parent) if place in parent.parents]
        if any(kind_of_entry(parent) != "folder" for parent in below):
            continue
        if folder.is_dir() and any(kind_of_entry(run / "result.json") for run in folder.iterdir()):
            return folder
    raise UserError(f"merge {place}: found no finished run in it, in {place / 'runs'} or in {place / profile / 'runs'}")


def _add(run: Path, target: Path, name: str) -> str:
    """Merges one run and returns "new", "equal" or "in conflict". Raises UserError for an invalid folder."""
    if kind_of_entry(run) != "folder":
        raise UserError(f"{run} is a {kind_of_entry(run)}, expected a folder; links are not followed")
    spec = read_plain_spec(run / "spec.yaml")
    if spec.id != run.name:
        raise UserError(f"{run} is not named after its spec")
    read_plain(run / "result.json")
    theirs = read_result(run / "result.json", spec.role)
    known = read_who(run) or Who(who=[_source(name, theirs)])
    there = target / "runs" / run.name
    if not (there / "result.json").exists():
        _copy(run, there)
        _write(there, known)
        return "new"
    ours = read_result(there / "result.json", spec.role)
    who = read_who(there) or Who(who=[_source(HERE, ours)])
    equal = _numbers(ours) == _numbers(theirs)
    if equal:
        who = who.model_copy(update={"who": _joined(who.who, known.who)})
    else:
        kept = Path("conflicts") / name / run.name
        if not (target / kept).exists():
            _copy(run, target / kept)
        others = [source.model_copy(update={"folder": kept.as_posix()}) for source in known.who]
        who = who.model_copy(update={"conflicts": _joined(who.conflicts, others)})
    _write(there, who)
    return "equal" if equal else "in conflict"


def _numbers(result: dict[str, Any]) -> str:
    return json.dumps({key: result.get(key) for key in NUMBERS}, sort_keys=True)


def _source(name: str, result: dict[str, Any]) -> Source:
    machine, last = result.get("machine") or {}, result.get("last") or {}
    value = last.get("test_top1", last.get("test_head_top1"))
    return Source(
        name=name,
        host=machine.get("host"),
        device=machine.get("device"),
        last=float(value) if isinstance(value, int | float) else None,
    )


def _joined(known: list[Source], more: list[Source]) -> list[Source]:
    return [*known, *(source for source in more if source not in known)]


def _copy(run: Path, target: Path) -> None:
    """Copies a run's folder atomically."""
    partial = target.with_name(f"{target.name}.merging")
    with plain_os_errors("write", target):
        shutil.rmtree(partial, ignore_errors=True)
        partial.parent.mkdir(parents=True, exist_ok=True)
        partial.mkdir()
        try:
            for path in sorted(run.iterdir()):
                if COPIED.fullmatch(path.name):
                    copy_plain(path, partial / path.name)
            shutil.rmtree(target, ignore_errors=True)  # an unfinished run with the same id
            partial.rename(target)
        finally:
            shutil.rmtree(partial, ignore_errors=True)


def _write(run: Path, who: Who) -> None:
    write_json(run / WHO, who.model_dump(mode="json", exclude_none=True, by_alias=True))


def who_columns(run: Path) -> dict[str, object]:
    """Returns columns for the report's frame: the result's owners, and a description of conflicting results."""
    who = read_who(run)
    if who is None:
        return {}
    names = ", ".join(dict.fromkeys(source.name for source in who.who))
    columns: dict[str, object] = {"who": names}
    if who.conflicts:
        counted = who.who[0]
        others = [f"{source.name} has {_points(source)}" for source in who.conflicts]
        columns["conflict"] = f"{counted.name} has {_points(counted)} (used); {', '.join(others)}"
    return columns


def _points(source: Source) -> str:
    return "another result" if source.last is None else f"{source.last:.2f}"
