"""Several people's results in one folder: ``run_all.py merge alice=DIR bob=DIR --results OUT``.

Of each run's folder the files of a run are copied, with who.json, which says whose it is and on what machine it was
done. Links are not followed. Equal copies of a run are one run. Where one run has two results, the first named stays,
the other is kept in conflicts/<name>/<id> beside runs/, and both are shown.
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
from sskd.runs.records import SCHEMA, Record
from sskd.runs.result_file import read_result

WHO = "who.json"
HERE = "here"  # whose the results are that are in the folder already
# what a result is, wherever and whenever it was found: two results are the same if these are
NUMBERS = ("best", "last", "chosen", "kl", "cka", "parameters", "train_images", "precision")
COPIED = re.compile("|".join(map(re.escape, (*FILES, WHO, "log.txt"))) + r"|probe-[^/]+\.json")


class Source(Record):
    """Who has a run's result, and from which machine."""

    name: str
    """As ``merge`` was told, or the folder's name."""
    host: str | None = None
    """The machine's name."""
    device: str | None = None
    """Its processor or GPU."""
    last: float | None = None
    """Top-1 accuracy of the last epoch in percent; of a head, how often it is right."""
    folder: str | None = None
    """Of a result that is not counted: where it is kept, from the profile's folder."""


class Who(Record):
    """who.json: whose a merged run is."""

    schema_version: Annotated[int, Field(alias="schema", le=SCHEMA)] = SCHEMA
    """The version of this description."""
    who: list[Source]
    """All who have this result; the first one's copy it is."""
    conflicts: list[Source] = []
    """Who has another result of the same run."""


def read_who(run: Path) -> Who | None:
    """Of a merged run's folder; None where nothing was merged, or the file is damaged."""
    try:
        return Who.model_validate(json.loads(read_plain(run / WHO)))
    except (UserError, ValueError, RecursionError, ValidationError):
        return None


def merge(sources: Sequence[str], target: Path, profile: str, log: Callable[[str], None] = print) -> None:
    """Copies the finished runs of every source ("DIR" or "NAME=DIR") into ``target``/runs; target: a profile's folder.
    UserError for a source that has none."""
    for source in sources:
        name, place = named(source)
        place = os.path.expanduser(place)
        runs = _runs_folder(Path(place), profile)
        if runs.resolve() == (target / "runs").resolve():
            raise UserError(f"merge {source}: these are the results that it would be merged into")
        name = name or _plain(Path(place).resolve().name, f"merge {source}: say NAME=DIR, for of DIR's own name")
        counts = {"new": 0, "equal": 0, "in conflict": 0}
        for run in sorted(path for path in runs.iterdir() if kind_of_entry(path / "result.json")):
            try:
                counts[_add(run, target, name)] += 1
            except UserError as error:  # one bad folder does not cost the others
                log(f"left out: {error}")
        log(f"{name}, {runs}: " + ", ".join(f"{count} {kind}" for kind, count in counts.items()))


def named(source: str) -> tuple[str, str]:
    """ "NAME=DIR" to its two parts; of "DIR" the name is "". What exists as a whole is a DIR: /data/lr=0.1. UserError
    for a name that is none."""
    name, equals, place = source.partition("=")
    if not equals or os.path.exists(source):
        return "", source
    if not place:
        raise UserError(f"merge {source}: no folder is named")
    return _plain(name, f"merge {source}: there is no such folder, and of NAME=DIR"), place


def _plain(name: str, where: str) -> str:
    """The name. UserError, which begins with ``where``, if it would lead out of the results."""
    try:
        return check_plain_name(name)
    except ValueError as error:
        raise UserError(f"{where} {error}") from None


def _runs_folder(place: Path, profile: str) -> Path:
    """Where run folders are: of a profile's results, of all results, or the folder itself. Below ``place`` no link is
    followed."""
    for folder in (place / "runs", place / profile / "runs", place):
        below = [parent for parent in (folder, folder.parent) if place in parent.parents]
        if any(kind_of_entry(parent) != "folder" for parent in below):
            continue
        if folder.is_dir() and any(kind_of_entry(run / "result.json") for run in folder.iterdir()):
            return folder
    raise UserError(f"merge {place}: no finished run is in it, nor in {place / 'runs'} or {place / profile / 'runs'}")


def _add(run: Path, target: Path, name: str) -> str:
    """Adds one run; returns what came of it. UserError where its folder is not as a run's is."""
    if kind_of_entry(run) != "folder":
        raise UserError(f"{run} is a {kind_of_entry(run)}, and no folder: links are not followed")
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
    """The whole folder or nothing: its result comes last."""
    partial = target.with_name(f"{target.name}.merging")
    with plain_os_errors("write", target):
        shutil.rmtree(partial, ignore_errors=True)
        partial.parent.mkdir(parents=True, exist_ok=True)
        partial.mkdir()
        try:
            for path in sorted(run.iterdir()):
                if COPIED.fullmatch(path.name):
                    copy_plain(path, partial / path.name)
            shutil.rmtree(target, ignore_errors=True)  # an unfinished run of the same id
            partial.rename(target)
        finally:
            shutil.rmtree(partial, ignore_errors=True)


def _write(run: Path, who: Who) -> None:
    write_json(run / WHO, who.model_dump(mode="json", exclude_none=True, by_alias=True))


def who_columns(run: Path) -> dict[str, object]:
    """Of a run's folder, for the report's frame: who has the result, and in words who has another."""
    who = read_who(run)
    if who is None:
        return {}
    names = ", ".join(dict.fromkeys(source.name for source in who.who))
    columns: dict[str, object] = {"who": names}
    if who.conflicts:
        counted = who.who[0]
        others = [f"{source.name} has {_points(source)}" for source in who.conflicts]
        columns["conflict"] = f"{counted.name} has {_points(counted)}, which counts; {', '.join(others)}"
    return columns


def _points(source: Source) -> str:
    return "another result" if source.last is None else f"{source.last:.2f}"
