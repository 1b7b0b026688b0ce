"""Where a report goes: a profile's own into its folder, that of any other request into a folder of its own."""

import argparse
import hashlib
import json
import re
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from benchmarks.analysis.frame import specs_of
from benchmarks.profiles.profile import Profile
from benchmarks.profiles.read import read_profile
from benchmarks.tables.benchmark import BENCHMARKS
from benchmarks.tables.cell import Cell
from sskd.errors import UserError
from sskd.formatting import plural
from sskd.runs.files import plain_os_errors, write_json
from sskd.runs.plugins import plugins_of
from sskd.runs.run_folder import RunFolder

NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._,=+-]*")
LONGEST = 80  # characters of a folder's name that is made from a request
WORDS = ("only", "methods", "seeds", "reference")  # the options that say what a report is of, beside --set
OF_EXECUTION = ("execution", "cluster")  # keys of --set that say where and how runs are executed
REQUEST = "request.json"


Cells = dict[str, list[Cell]]


class Placed(NamedTuple):
    """A report: what it is of, and where it goes. ``request``: of a variant, or with plugins that the profile's file
    does not name."""

    folder: Path
    profile: Profile
    cells: Cells
    request: dict[str, Any] | None = None

    def note(self) -> None:
        """Writes into the report's folder what was asked for."""
        if self.request is not None:
            with plain_os_errors("create", self.folder):
                self.folder.mkdir(parents=True, exist_ok=True)
            write_json(self.folder / REQUEST, self.request)


def place(
    profile: Profile, cells: Cells, options: argparse.Namespace, cells_of: Callable[[Profile, str], Cells]
) -> Placed:
    """The report of a request. If it asks for runs of the profile as its file has it, a whole benchmark or more, the
    report is the profile's, of all its benchmarks; else it is a variant of what was asked for, in reports/. What only
    says where and how runs are executed makes no other report. UserError for a --name that is none, or that another
    request has."""
    folder = options.results / profile.name
    own = _own(profile, options)
    plugins = [path for path in _plugins(cells) if own is None or path not in own.plugins]
    request = {word: value for word in WORDS if (value := getattr(options, word))}
    request |= _without_execution({"set": options.set}) | ({"plugin": plugins} if plugins else {})
    if not options.name:
        by = {"plugin": plugins}
        free = not plugins or not _is_taken(folder, by)  # the profile's report of another plugin stays
        if own is not None and not options.reference and free and _same_rules(own, profile, cells):
            whole = cells_of(own, "")
            if all(_runs(cells[name]) == _runs(whole.get(name, [])) for name in cells):
                return Placed(folder, own, whole, by if plugins else None)
    elif not NAME.fullmatch(options.name):
        raise UserError(f"--name {options.name}: letters, digits and . _ , = + - after a letter or digit")
    folder = folder / "reports" / (options.name or request_name(request))
    if _is_taken(folder, request):
        if options.name:
            raise UserError(f"{folder} is the report of another request, see {REQUEST} there: take another --name")
        folder = folder.with_name(f"{folder.name}-{_hash(json.dumps(request))}")  # plugins of one name in two folders
    return Placed(folder, profile, cells, request)


def tell_finished(placed: Placed, runs: Path) -> str:
    """How much there is to report of, and where. UserError if that is nothing."""
    specs = specs_of(placed.cells).values()
    finished = sum(RunFolder(runs, spec).is_finished() for spec in specs)
    if not finished:
        raise UserError(
            f"none of the report's {plural(len(specs), 'run')} is finished in {runs.resolve()}: nothing to report. "
            "--results DIR says where results are"
        )
    return f"{finished} of {plural(len(specs), 'run')} finished in {runs.resolve()}"


def _own(profile: Profile, options: argparse.Namespace) -> Profile | None:
    """The profile as its file has it, but for where and how it is executed. None if the file alone is not enough."""
    try:
        own = read_profile(options.profile, [f"name={json.dumps(profile.name)}"])
    except UserError:
        return None
    return own.model_copy(update={"execution": profile.execution})


def _same_rules(own: Profile, profile: Profile, cells: Cells) -> bool:
    """Whether both profiles make the same report of the same runs."""
    pairs = [(own.for_benchmark(name), profile.for_benchmark(name)) for name in cells]
    return all((a.waivers, a.strict, a.probe) == (b.waivers, b.strict, b.probe) for a, b in pairs)


def _plugins(cells: Cells) -> list[str]:
    """The plugins that define something of the report: a benchmark, or what its runs are made of."""
    modules = [sys.modules.get(BENCHMARKS[name].cells.__module__) for name in cells]
    files = {str(module.__file__) for module in modules if module and module.__name__.startswith("plugin_")}
    return sorted(files | {str(plugin.path) for spec in specs_of(cells).values() for plugin in plugins_of(spec)})


def _without_execution(request: dict[str, Any]) -> dict[str, Any]:
    """A request without the settings that say where and how runs are executed."""
    kept = [setting for setting in request.get("set", []) if re.split(r"[.=]", setting)[0] not in OF_EXECUTION]
    rest = {word: value for word, value in request.items() if word != "set"}
    return rest | ({"set": kept} if kept else {})


def _runs(cells: list[Cell]) -> list[tuple[str, str, str]]:
    return [(cell.row, cell.column, cell.spec.id) for cell in cells]


def request_name(request: Mapping[str, Any]) -> str:
    """A folder's name for a request that was given none: its words, and their hash where they do not fit."""
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
    """Whether the folder has the report of another request."""
    try:
        taken = json.loads((folder / REQUEST).read_bytes())
    except (OSError, ValueError):
        return False
    return not isinstance(taken, dict) or _without_execution(taken) != request
