"""run_all.py's options and what they do. Exit status: 0 all finished, 1 something failed, 2 bad input."""

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from benchmarks.base import BENCHMARKS, Cell, Specs
from benchmarks.cost import describe_cost, plan_cost
from benchmarks.launcher import run_inline
from benchmarks.listing import KINDS, listing
from benchmarks.planner import Plan, make_plan, statuses
from benchmarks.profiles import Profile, parse_method, profile_names, read_profile
from benchmarks.report import write_report
from sskd.errors import UserError
from sskd.methods import METHODS
from sskd.progress import Progress


def main(arguments: Sequence[str] | None = None) -> int:
    options = _parser().parse_args(arguments)
    try:
        return _run(options)
    except UserError as error:
        print(f"run_all: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("\nrun_all: stopped; the same command goes on where it was", file=sys.stderr)
        return 130


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="run_all.py",
        description="Regenerates the tables and figures of SSKD (ECCV 2020), as far as asked.",
    )
    add = parser.add_argument
    add(
        "--profile",
        default="smoke",
        help=f"how much of everything: {', '.join(profile_names())}, or a YAML file",
    )
    add("--only", default="", metavar="IDS", help="benchmarks, by comma (default: the profile's)")
    add(
        "--methods",
        default="",
        metavar="NAMES",
        help="methods of the comparison, by comma: kd,crd,crd+kd, or all",
    )
    add("--seeds", default="", metavar="NUMBERS", help="seeds, by comma")
    add(
        "--set",
        nargs="+",
        action="extend",
        default=[],
        metavar="KEY=VALUE",
        help="override of the profile: recipe.epochs=3",
    )
    add("--dataset-root", help="where data sets are (same as --set execution.dataset_root=...)")
    add("--results", type=Path, default=Path("results"), help="where results go (default: results)")
    add("--dry-run", action="store_true", help="print the plan and its cost, and run nothing")
    add("--report-only", action="store_true", help="make the report from what is there, and run nothing")
    add("--list", choices=KINDS, help="what there is, and stop")
    add("--json", action="store_true", help="with --list, --dry-run or --report-only: print JSON")
    return parser


def _run(options: argparse.Namespace) -> int:
    if options.list:
        print(listing(options.list, options.json))
        return 0
    profile = _profile(options)
    cells = _cells(profile, options.only)
    plan = make_plan(cell.spec for group in cells.values() for cell in group if cell.spec)
    folder = options.results / profile.name
    if options.dry_run:
        _print_plan(plan, folder / "runs", profile, options.json)
        return 0
    failures: dict[str, str] = {}
    if not options.report_only:
        todo = [spec for spec, status in _with_status(plan, folder) if status != "finished"]
        print(f"{len(plan.runs)} runs, {len(plan.runs) - len(todo)} of them finished already")
        with Progress(len(todo)) as progress:
            failures = run_inline(plan, folder / "runs", profile.execution, progress)
    _report(cells, folder, options.json)
    for run_id, message in failures.items():
        print(f"run_all: {run_id}: {message}", file=sys.stderr)
    return 1 if failures else 0


def _profile(options: argparse.Namespace) -> Profile:
    settings = list(options.set)
    if options.dataset_root:
        settings.append(f"execution.dataset_root={json.dumps(options.dataset_root)}")
    if options.seeds:
        settings.append(f"seeds=[{options.seeds}]")
    if options.methods:
        names = list(METHODS) if options.methods == "all" else options.methods.split(",")
        settings.append(f"methods={json.dumps([parse_method(name) for name in names])}")
    return read_profile(options.profile, settings)


def _cells(profile: Profile, only: str) -> dict[str, list[Cell]]:
    specs = Specs(profile)
    names = only.split(",") if only else profile.benchmarks
    return {name: BENCHMARKS[name].cells(specs) for name in names}


def _with_status(plan: Plan, folder: Path) -> list[tuple[Any, str]]:
    known = statuses(plan, folder / "runs")
    return [(spec, known[spec.id].state) for spec in plan.runs]


def _print_plan(plan: Plan, runs: Path, profile: Profile, as_json: bool) -> None:
    known, cost = statuses(plan, runs), plan_cost(plan, runs, profile)
    if as_json:
        rows = [
            {
                "id": spec.id,
                "stage": number,
                "state": known[spec.id].state,
                "needs": [needed.id for needed in spec.needs],
                "multiply_adds": cost.multiply_adds[spec.id],
                "seconds": cost.seconds[spec.id],
            }
            for number, stage in enumerate(plan.stages)
            for spec in stage
        ]
        print(json.dumps({"runs": rows, "seconds": cost.left, "rate": cost.rate, "rate_from": cost.source}, indent=1))
        return
    for number, stage in enumerate(plan.stages, start=1):
        print(f"stage {number}: {len(stage)} runs")
        for spec in stage:
            waits = f", after {', '.join(needed.id for needed in spec.needs)}" if spec.needs else ""
            print(f"  {spec.id}: {known[spec.id].state}{waits}, {describe_cost(cost, spec.id)}")
    print(cost.text)


def _report(cells: dict[str, list[Cell]], folder: Path, as_json: bool) -> None:
    for name, group in cells.items():
        text = write_report(BENCHMARKS[name], group, folder)
        print(json.dumps({"benchmark": name, "report": text}) if as_json else "\n" + text)
    if not as_json:
        print(f"written to {folder.resolve()}")
