"""Request of a command: which runs of which profile, and the results folder.

Slow imports (torch, pandas) are inside functions, so that help and errors appear immediately.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from sskd.arguments import file_path
from sskd.errors import UserError
from sskd.paths import config_names

if TYPE_CHECKING:
    from benchmarks.dispatch.job import Job
    from benchmarks.planning.plan import Plan
    from benchmarks.profiles.profile import Profile
    from benchmarks.report.report_folder import ReportTarget
    from benchmarks.tables.cell import Cell

CLUSTER = "cluster."  # prefix of --set keys that belong to the cluster's file
# options of a request, stored in requests/NAME.yaml
OPTIONS = ("profile", "only", "methods", "seeds", "set", "plugin", "reference", "name", "dataset_root", "cluster")
REQUESTS = "requests"  # the folder in --results


class Outcome(NamedTuple):
    """Result of a command: its exit status, and a one-line summary for --notify."""

    status: int = 0
    words: str = ""


class Request(NamedTuple):
    """The runs that a command refers to."""

    options: argparse.Namespace
    profile: Profile
    cells: dict[str, list[Cell]]  # cells of the requested benchmarks
    target: ReportTarget  # the report and its folder
    plan: Plan

    @property
    def folder(self) -> Path:
        """Returns the folder of the profile's results."""
        return Path(self.options.results / self.profile.name)

    @property
    def name(self) -> str:
        """Returns the name for ``status`` and ``cancel``: --name, else the profile's if the request is unmodified, else
        both."""
        if self.options.name or self.target.request is None:
            return self.options.name or self.profile.name
        return f"{self.profile.name}_{self.target.folder.name}"


def add_plugins(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--plugin",
        action="append",
        default=[],
        metavar="FILE.py",
        help="Python file that registers your own methods, networks, ...; can be given several times",
    )


def add_paths(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--dataset-root", help="folder of the data sets (same as --set execution.dataset_root=...)")
    parser.add_argument(
        "--results", type=file_path, default=Path("results"), help="folder of the results (default: results)"
    )


def add_profile(parser: argparse.ArgumentParser) -> None:
    """Adds the options that select the profile and change it, and the paths."""
    parser.add_argument(
        "--profile",
        default="demo",
        help="experiment profile (data set, networks, methods, schedule, seeds): "
        f"{', '.join(config_names('profiles'))}, or a YAML file (default: demo)",
    )
    add_settings(parser)
    add_plugins(parser)
    add_paths(parser)


def add_settings(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--set",
        nargs="+",
        action="extend",
        default=[],
        metavar="KEY=VALUE",
        help="override keys of the profile (recipe.epochs=3) or of the cluster (cluster.time=4:00:00)",
    )


def add_request(parser: argparse.ArgumentParser) -> None:
    """Adds the options that select runs."""
    add_profile(parser)
    add = parser.add_argument
    add("--only", default="", metavar="IDS", help="benchmarks, separated by commas (default: the profile's)")
    add(
        "--methods",
        default="",
        metavar="NAMES",
        help="only these methods in benchmarks that compare methods, separated by commas: kd,crd,crd+kd, or all",
    )
    add("--seeds", default="", metavar="NUMBERS", help="seeds of the students, separated by commas")
    add(
        "--reference",
        default="",
        metavar="NAME",
        help="method with which all others are compared (default: the newest of your own, else SSKD)",
    )
    add(
        "--name",
        default="",
        metavar="NAME",
        help="name of this request, and of its report in reports/NAME (default: derived from the options)",
    )


def add_cluster(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--cluster",
        default="",
        help=f"where runs execute: {', '.join(config_names('clusters'))}, or a YAML file (default: the profile's)",
    )


def add_json(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--json", action="store_true", help="print JSON")


def load_plugins(options: argparse.Namespace) -> None:
    if options.plugin:
        from sskd.runs.plugins import load_plugins

        load_plugins(options.plugin)


def read_request(options: argparse.Namespace) -> Request:
    """Returns the request. Raises UserError for invalid options."""
    from benchmarks.planning.plan import make_plan
    from benchmarks.report.report_folder import report_target
    from sskd.runs.files import plain_os_errors

    profile = profile_of(options)
    folder = options.results / profile.name
    with plain_os_errors("read", folder):
        folder.exists()  # fails for a name that is too long, or an unreadable folder
    cells = cells_of_request(profile, options.only, folder)
    if options.methods:
        cells = {name: _with_methods(name, group, profile) for name, group in cells.items()}
    target = report_target(profile, cells, options, lambda of, only: cells_of_request(of, only, folder))
    if options.reference:  # checks the name before anything is trained
        from benchmarks.tables.reference import choose_reference

        choose_reference(target.cells, options.reference)
    return Request(options, profile, cells, target, make_plan(cell.spec for group in cells.values() for cell in group))


def cells_of_request(profile: Profile, only: str, folder: Path) -> dict[str, list[Cell]]:
    from benchmarks.commands.seeds import cells_of

    return cells_of(profile, only.split(",") if only else profile.benchmarks, folder)


def job_of(request: Request, plan: Plan | None = None) -> Job:
    """Returns the job: what to execute and where, with absolute paths, because processes may start in other folders."""
    from benchmarks.dispatch.cluster import read_cluster
    from benchmarks.dispatch.job import Job

    options, profile = request.options, request.profile
    settings = [setting[len(CLUSTER) :] for setting in options.set if setting.startswith(CLUSTER)]
    root = str(Path(profile.execution.dataset_root).resolve())
    return Job(
        request.plan if plan is None else plan,
        (request.folder / "runs").resolve(),
        profile.execution.model_copy(update={"dataset_root": root}),
        read_cluster(options.cluster or profile.cluster, settings),
        profile.plugins,
        getattr(options, "retry_failed", False),
        request.name,
    )


def profile_of(options: argparse.Namespace) -> Profile:
    """Reads the profile and applies the plugins, settings, seeds and methods of the options. Raises UserError for
    invalid ones."""
    from benchmarks.profiles.read import parse_method, read_profile
    from benchmarks.tables.benchmark import check_benchmarks
    from benchmarks.tables.spec_builder import PAPER_METHODS
    from sskd.methods import METHODS

    load_plugins(options)  # before --methods is parsed, because it can name registered methods
    settings = [setting for setting in options.set if not setting.startswith(CLUSTER)]
    if options.dataset_root:
        settings.append(f"execution.dataset_root={json.dumps(options.dataset_root)}")
    if options.seeds:
        settings.append(f"seeds=[{options.seeds}]")
    if options.methods:
        names = list(METHODS) if options.methods == "all" else options.methods.split(",")
        settings.append(f"methods={json.dumps([parse_method(name) for name in names])}")
        # rows of the paper's tables and figures; figures 4a and 4b also show the other methods
        papers = [name for name in dict.fromkeys(names) if name in PAPER_METHODS]
        others = [parse_method(name) for name in dict.fromkeys(names) if name not in PAPER_METHODS]
        settings += [f"table_methods={json.dumps(papers)}", f"also={json.dumps(others)}"]
    profile = read_profile(options.profile, settings, options.plugin)
    check_benchmarks(profile)
    return profile


def _with_methods(benchmark: str, cells: list[Cell], profile: Profile) -> list[Cell]:
    """Returns the cells of the methods in --methods, and the teachers. Raises UserError if rows are not methods, or
    none is left."""
    from benchmarks.tables.benchmark import BENCHMARKS
    from benchmarks.tables.spec_builder import method_label, run_label

    if BENCHMARKS[benchmark].rows != "method":
        raise UserError(
            f"--methods does not apply to {benchmark}, whose rows are of kind '{BENCHMARKS[benchmark].rows}': "
            "remove it, or choose other benchmarks with --only"
        )
    labels = {method_label(method) for method in profile.methods}
    kept = [cell for cell in cells if cell.spec.role != "student" or run_label(cell.spec) in labels]
    if not any(cell.spec.role == "student" for cell in kept):
        raise UserError(f"--methods: {benchmark} has no row of {', '.join(sorted(labels))}")
    return kept


def save_request(request: Request) -> str:
    """Writes results/requests/NAME.yaml and returns NAME. Raises UserError if --name belongs to another profile."""
    options = request.options
    said = {word: value for word in OPTIONS if (value := getattr(options, word, None))}
    for word in ("profile", "cluster"):
        if str(said.get(word, "")).endswith((".yaml", ".yml")):
            said[word] = str(Path(said[word]).expanduser().resolve())
    if options.plugin:
        said["plugin"] = [str(Path(file).expanduser().resolve()) for file in options.plugin]
    path = options.results / REQUESTS / f"{request.name}.yaml"
    if options.name and path.exists() and _read(path).get("profile") != said["profile"]:
        raise UserError(f"{path} is a request of another profile: choose another --name")
    write_yaml(path, said)
    return request.name


def write_yaml(path: Path, data: dict[str, Any]) -> None:
    """Writes a YAML file and creates its folder. Raises UserError if that is not possible."""
    import yaml

    from sskd.runs.files import plain_os_errors, write_atomically

    with plain_os_errors("write", path.parent):
        path.parent.mkdir(parents=True, exist_ok=True)
    write_atomically(path, yaml.safe_dump(data, sort_keys=False).encode())


def recall_request(options: argparse.Namespace, name: str) -> None:
    """Sets the options of a saved request. Raises UserError if there is no such request."""
    from sskd.errors import unknown

    folder = options.results / REQUESTS
    path = folder / f"{name}.yaml"
    if not path.is_file():
        known = sorted(file.stem for file in folder.glob("*.yaml"))
        if not known:
            raise UserError(
                f"there is no request {name}: {folder} has no saved request; give the request's options, or --all"
            )
        raise unknown("request", name, known)
    for word, value in _read(path).items():
        setattr(options, word, value)


def _read(path: Path) -> dict[str, object]:
    from sskd.config.yaml import read_yaml

    said = read_yaml(path)
    if not isinstance(said, dict) or not said.keys() <= set(OPTIONS):
        raise UserError(f"{path} is not a saved request: delete it, and give the options again")
    return said
