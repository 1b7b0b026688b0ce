"""The folder of a report: a profile's own, or for any other request a folder of its own."""

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
LONGEST = 80  # characters of a folder's name that is made from a request
OPTIONS = (
    "only",
    "methods",
    "seeds",
    "reference",
)  # the options that say what a report is of, beside --set and --plugin
EXECUTION_KEYS = ("execution", "cluster", "name")  # keys of --set that only say where and how runs are executed
REQUEST = "request.json"

BenchmarkCells = dict[str, list[Cell]]


class ReportTarget(NamedTuple):
    """A report and its folder. request: what was asked for, where that is not the profile's own report."""

    folder: Path
    profile: Profile
    cells: BenchmarkCells
    request: dict[str, Any] | None = None

    def save_request(self) -> None:
        """Writes into the report's folder what was asked for."""
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
    """Returns the report of a request. A request that at most chooses among the profile's benchmarks is shown in the
    profile's own report, of all of them; any other has a report in reports/, of what was asked for. UserError for a
    --name that is none, or that another request has."""
    folder, request = options.results / profile.name, _request(options)
    if not options.name and request.keys() <= {"only"} and cells.keys() <= set(profile.benchmarks):
        return ReportTarget(folder, profile, cells_of(profile, ""))
    if options.name and not NAME.fullmatch(options.name):
        raise UserError(f"--name {options.name}: letters, digits and . _ , = + - after a letter or digit")
    folder = folder / "reports" / (options.name or request_name(request))
    if _is_taken(folder, request):
        if options.name:
            raise UserError(f"{folder} is the report of another request, see {REQUEST} there: take another --name")
        folder = folder.with_name(f"{folder.name}-{_hash(json.dumps(request))}")  # plugins of one name in two folders
    return ReportTarget(folder, profile, cells, request)


def finished_text(target: ReportTarget, runs: Path) -> str:
    """Returns how much there is to report of, and where. UserError if that is nothing."""
    specs = specs_of(target.cells).values()
    finished = sum(RunFolder(runs, spec).is_finished() for spec in specs)
    if not finished:
        raise UserError(
            f"none of the report's {plural(len(specs), 'run')} is finished in {runs.resolve()}: nothing to report. "
            "--results DIR says where results are"
        )
    return f"{finished} of {plural(len(specs), 'run')} finished in {runs.resolve()}"


def _request(options: argparse.Namespace) -> dict[str, Any]:
    """Returns the options that say what a report is of, without those that are not given."""
    said: dict[str, Any] = {word: value for word in OPTIONS if (value := getattr(options, word))}
    said["set"] = _of_report(options.set)
    said["plugin"] = [str(Path(file).expanduser().resolve()) for file in options.plugin]
    return {word: value for word, value in said.items() if value}


def _of_report(settings: list[str]) -> list[str]:
    return [setting for setting in settings if re.split(r"[.=]", setting)[0] not in EXECUTION_KEYS]


def request_name(request: Mapping[str, Any]) -> str:
    """Returns a folder's name for a request that was given none: its words, and their hash where they do not fit."""
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
    """Returns whether the folder has the report of another request."""
    try:
        taken = json.loads((folder / REQUEST).read_bytes())
    except (OSError, ValueError):
        return False
    if not isinstance(taken, dict):
        return True
    kept = _of_report(taken.pop("set", []))  # an earlier version kept what is only of the place
    return taken | ({"set": kept} if kept else {}) != request
