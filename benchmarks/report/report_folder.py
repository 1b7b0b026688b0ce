"""Chooses the folder of a report: the profile's own, or reports/NAME for any other request."""

import argparse
import hashlib
import json
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from benchmarks.analysis.frame import specs_of
from benchmarks.profiles.profile import Profile
from benchmarks.tables.cell import Cell
from sskd.errors import UserError
from sskd.formatting import plural
from sskd.runs.files import plain_os_errors, write_json
from sskd.runs.run_folder import RunFolder

NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._,=+-]*")
LONGEST = 80  # maximum number of characters of a generated folder name
OPTIONS = ("only", "methods", "seeds", "reference")  # they select a report's contents, besides --set and --plugin
EXECUTION_KEYS = ("execution", "cluster", "name")  # keys of --set without effect on the report's contents
REQUEST = "request.json"

BenchmarkCells = dict[str, list[Cell]]


class ReportTarget(NamedTuple):
    """A report and its folder. request: the options that the report was made with; None for the profile's own
    report."""

    folder: Path
    profile: Profile
    cells: BenchmarkCells
    request: dict[str, Any] | None = None

    def save_request(self) -> None:
        """Writes request.json into the report's folder."""
        if self.request is not None:
            with plain_os_errors("create", self.folder):
                self.folder.mkdir(parents=True, exist_ok=True)
            write_json(self.folder / REQUEST, self.request)


def report_target(
    profile: Profile,
    cells: BenchmarkCells,
    options: argparse.Namespace,
    cells_of: Callable[[Profile, str], BenchmarkCells],
) -> ReportTarget:
    """Decides which report to write, and where.

    If the request is one or more complete benchmarks of the unmodified profile (without --name and --reference), the
    report is the profile's own and covers all its benchmarks. Otherwise it covers only what was requested and goes to
    reports/NAME. Raises UserError if --name is invalid or belongs to another request.
    """
    folder, request = options.results / profile.name, _request(options)
    if not options.name and request.keys() <= {"only"} and cells.keys() <= set(profile.benchmarks):
        return ReportTarget(folder, profile, cells_of(profile, ""))
    if options.name and not NAME.fullmatch(options.name):
        raise UserError(
            f"--name {options.name}: letters, digits and . _ , = + - are valid, and a letter or digit first"
        )
    folder = folder / "reports" / (options.name or request_name(request))
    if _is_taken(folder, request):
        if options.name:
            raise UserError(f"{folder} is the report of another request, see {REQUEST} there: take another --name")
        # plugins with the same name in different folders
        folder = folder.with_name(f"{folder.name}-{_hash(json.dumps(request))}")
    return ReportTarget(folder, profile, cells, request)


def finished_text(target: ReportTarget, runs: Path) -> str:
    """Returns how many runs of the report are finished, and in which folder. Raises UserError if none is."""
    specs = specs_of(target.cells).values()
    finished = sum(RunFolder(runs, spec).is_finished() for spec in specs)
    if not finished:
        raise UserError(
            f"none of the report's {plural(len(specs), 'run')} is finished in {runs.resolve()}: nothing to report. "
            "--results DIR says where results are"
        )
    return f"{finished} of {plural(len(specs), 'run')} finished in {runs.resolve()}"


def _request(options: argparse.Namespace) -> dict[str, Any]:
    """Returns the given options that select the contents of a report."""
    said: dict[str, Any] = {word: value for word in OPTIONS if (value := getattr(options, word))}
    said["set"] = [setting for setting in options.set if re.split(r"[.=]", setting)[0] not in EXECUTION_KEYS]
    said["plugin"] = [str(Path(file).expanduser().resolve()) for file in options.plugin]
    return {word: value for word, value in said.items() if value}


def request_name(request: Mapping[str, Any]) -> str:
    """Returns a folder's name for a request without --name: its options, and a hash if they do not fit."""
    words: list[str] = []
    for key, value in request.items():
        if key == "plugin":
            words += [f"plugin={Path(path).stem}" for path in value]
        else:
            words += value if isinstance(value, list) else [str(value) if key == "only" else f"{key}={value}"]
    text = "_".join(words)
    name = re.sub(r"[^A-Za-z0-9._,=+-]+", "-", text).strip(".-")
    if name == text and len(name) <= LONGEST:
        return name
    return f"{name[:LONGEST]}-{_hash(text)}"


def _hash(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:8]


def _is_taken(folder: Path, request: Mapping[str, Any]) -> bool:
    """Returns True if the folder has the report of another request."""
    try:
        return bool(json.loads((folder / REQUEST).read_bytes()) != request)
    except (OSError, ValueError):
        return False
