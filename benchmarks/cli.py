"""run_all.py's options and what they do. Exit status: 0 all finished, 1 something failed, 2 bad input, 130 or
143 ended by Ctrl-C or SIGTERM.

What takes seconds to import (torch, pandas, matplotlib) is imported in the function that needs it: help, lists and
answers to bad options come at once.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from benchmarks.listing import KINDS, listing
from sskd.errors import UserError, refuse_null_bytes
from sskd.places import config_names
from sskd.signals import Stopped
from sskd.version import ShowVersion

if TYPE_CHECKING:
    from benchmarks.base import Cell
    from benchmarks.launcher import Failure, Work
    from benchmarks.planner import Plan
    from benchmarks.profiles import Profile
    from sskd.config import RunSpec

CLUSTER = "cluster."  # what --set gives to the cluster's file and not to the profile's


def main(arguments: Sequence[str] | None = None) -> int:
    arguments = sys.argv[1:] if arguments is None else arguments
    options = _parser().parse_args(arguments)
    try:
        refuse_null_bytes(arguments)
        status = _run(options, arguments)
        sys.stdout.flush()
        return status
    except BrokenPipeError:  # whoever read the output has seen enough: "| head"
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # else Python fails again when it ends
        return 141
    except UserError as error:
        print(f"run_all: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt as end:
        print("\nrun_all: stopped; the same command goes on where it was", file=sys.stderr)
        return end.status if isinstance(end, Stopped) else 130


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="sskd-suite" if Path(sys.argv[0]).stem == "sskd-suite" else "run_all.py",
        description="Regenerates the tables and figures of SSKD (ECCV 2020), as far as asked.",
    )
    add = parser.add_argument
    add(
        "--profile",
        default="smoke",
        help=f"how much of everything: {', '.join(config_names('profiles'))}, or a YAML file",
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
        help="override of the profile: recipe.epochs=3; or of the cluster: cluster.time=4:00:00",
    )
    add(
        "--plugin",
        action="append",
        default=[],
        metavar="FILE.py",
        help="a Python file of your own methods, networks, ...",
    )
    add(
        "--reference",
        default="",
        metavar="NAME",
        help="the method that all others are compared with (default: the newest of your own, else SSKD)",
    )
    add("--dataset-root", help="where data sets are (same as --set execution.dataset_root=...)")
    add("--results", type=Path, default=Path("results"), help="where results go (default: results)")
    add("--dry-run", action="store_true", help="print the plan and its cost, and run nothing")
    add("--report-only", action="store_true", help="make the report from what is there, and run nothing")
    add(
        "--cluster",
        default="inline",
        help=f"where runs execute: {', '.join(config_names('clusters'))}, or a YAML file (default: inline)",
    )
    add("--detach", action="store_true", help="start or submit everything, and do not wait for it")
    add("--status", action="store_true", help="how far everything is, whoever started it")
    add("--cancel", action="store_true", help="end what runs or waits; what it has saved stays")
    add("--retry-failed", action="store_true", help="try again what failed as often as the cluster's retries allow")
    add("--list", choices=KINDS, help="what there is, and stop")
    add("--json", action="store_true", help="with --list, --dry-run, --status or --report-only: print JSON")
    add("--version", action=ShowVersion)
    return parser


def _run(options: argparse.Namespace, arguments: Sequence[str]) -> int:
    if options.list:
        _load_plugins(options)
        print(listing(options.list, options.json))
        return 0
    from benchmarks.launcher import cancel, launch
    from benchmarks.planner import check_runs, check_teachers, make_plan
    from sskd.progress import Progress, plural

    profile = _profile(options)
    cells = _cells(profile, options.only)
    if options.reference:  # a wrong name is told before anything is trained
        from benchmarks.reference import choose_reference

        choose_reference(_cells(profile, "") | cells, options.reference)
    plan = make_plan(cell.spec for group in cells.values() for cell in group)
    folder = options.results / profile.name
    work = _work(options, plan, folder, profile)
    root = Path(work.execution.dataset_root)
    if options.dry_run:
        todo = [spec for spec, state in _with_status(plan, folder) if state != "finished"]
        check_runs(todo, root)
        _print_plan(plan, folder / "runs", profile, options.json)
        check_teachers(todo, root)  # last: a plan may be made where the weights are not
        return 0
    if options.status:
        from benchmarks.status import show_status

        show_status(work, cells, options.json)
        return 0
    if options.cancel:
        print(f"told {plural(cancel(work, print), 'run')} to end")
        return 0
    failures: dict[str, Failure] = {}
    if not options.report_only:
        states = _with_status(plan, folder)
        todo = [spec for spec, state in states if state != "finished"]
        check_runs(todo, root)
        check_teachers(todo, root)
        _check_this_machine(work, todo)
        _set_aside([spec for spec, state in states if state == "weights lost"], folder)
        print(f"{plural(len(plan.runs), 'run')}, {len(plan.runs) - len(todo)} of them finished already", flush=True)
        if options.detach:
            from benchmarks.detached import start_detached

            print(start_detached(work, arguments))
            return 0
        with Progress(len(todo)) as progress:
            failures = launch(work, progress)
    _report(profile, cells, folder, options)
    by_message: dict[str, list[str]] = {}
    for run_id, failure in failures.items():
        by_message.setdefault(failure.message, []).append(run_id)
    for message, ids in by_message.items():
        more = f" and {len(ids) - 1} more" if len(ids) > 1 else ""
        print(f"run_all: {ids[0]}{more}: {message}", file=sys.stderr)
    if any(failure.input_is_bad for failure in failures.values()):
        return 2
    return 1 if failures else 0


def _work(options: argparse.Namespace, plan: Plan, folder: Path, profile: Profile) -> Work:
    """What to execute and where; paths absolute, for processes that start elsewhere."""
    from benchmarks.clusters import read_cluster
    from benchmarks.launcher import Work

    settings = [setting[len(CLUSTER) :] for setting in options.set if setting.startswith(CLUSTER)]
    root = str(Path(profile.execution.dataset_root).resolve())
    cluster = read_cluster(options.cluster, settings)
    return Work(
        plan,
        (folder / "runs").resolve(),
        profile.execution.model_copy(update={"dataset_root": root}),
        cluster,
        profile.plugins,
        options.retry_failed,
    )


def _load_plugins(options: argparse.Namespace) -> None:
    if options.plugin:
        from benchmarks.plugins import load_plugins

        load_plugins(options.plugin)


def _profile(options: argparse.Namespace) -> Profile:
    from benchmarks.profiles import parse_method, read_profile
    from sskd.methods import METHODS

    _load_plugins(options)  # before --methods is looked at: it may name what they register
    settings = [setting for setting in options.set if not setting.startswith(CLUSTER)]
    if options.dataset_root:
        settings.append(f"execution.dataset_root={json.dumps(options.dataset_root)}")
    if options.seeds:
        settings.append(f"seeds=[{options.seeds}]")
    if options.methods:
        names = list(METHODS) if options.methods == "all" else options.methods.split(",")
        settings.append(f"methods={json.dumps([parse_method(name) for name in names])}")
    return read_profile(options.profile, settings, options.plugin)


def _cells(profile: Profile, only: str) -> dict[str, list[Cell]]:
    from benchmarks.base import BENCHMARKS, Specs, placed_once

    names = only.split(",") if only else profile.benchmarks
    return {name: placed_once(name, BENCHMARKS[name].cells(Specs(profile.for_benchmark(name)))) for name in names}


def _with_status(plan: Plan, folder: Path) -> list[tuple[RunSpec, str]]:
    from benchmarks.planner import statuses

    known = statuses(plan, folder / "runs")
    return [(spec, known[spec.id].state) for spec in plan.runs]


def _set_aside(lost: Sequence[RunSpec], folder: Path) -> None:
    from sskd.folder import RunFolder

    for spec in lost:
        print(f"{spec.id} is finished, but its weights are not here, and other runs need them: it is trained again")
        RunFolder(folder / "runs", spec).set_aside()


def _check_this_machine(work: Work, todo: Sequence[RunSpec]) -> None:
    """UserError where what runs here has no data, or not the device that is asked for. Slurm's nodes may have both."""
    from benchmarks.planner import refuse_hopeless
    from sskd.machine import device_of

    if work.cluster.kind == "slurm":
        return
    refuse_hopeless(todo, Path(work.execution.dataset_root))
    if work.execution.device != "auto":
        device_of(work.execution)


def _label(spec: RunSpec) -> str:
    """The method as tables name it: an id has its name alone, the same for crd and crd+kd."""
    from benchmarks.base import method_label

    return f" ({method_label(spec.method)})" if spec.method else ""


def _print_plan(plan: Plan, runs: Path, profile: Profile, as_json: bool) -> None:
    from benchmarks.base import method_label
    from benchmarks.cost import describe_cost, plan_cost
    from benchmarks.planner import statuses
    from sskd.progress import plural

    known, cost = statuses(plan, runs), plan_cost(plan, runs, profile)
    if as_json:
        rows = [
            {
                "id": spec.id,
                "label": method_label(spec.method) if spec.method else "",
                "stage": number,
                "state": known[spec.id].state,
                "needs": [needed.id for needed in spec.needs],
                "multiply_adds": cost.multiply_adds[spec.id],
                "seconds": cost.seconds[spec.id],
            }
            for number, stage in enumerate(plan.stages)
            for spec in stage
        ]
        rate = {"rate": cost.rate, "rate_from": cost.source, "assumed": cost.assumed}
        print(json.dumps({"runs": rows, "seconds": cost.left, **rate}, indent=1))
        return
    for number, stage in enumerate(plan.stages, start=1):
        print(f"stage {number}: {plural(len(stage), 'run')}")
        for spec in stage:
            waits = f", after {', '.join(needed.id for needed in spec.needs)}" if spec.needs else ""
            print(f"  {spec.id}{_label(spec)}: {known[spec.id].state}{waits}, {describe_cost(cost, spec.id)}")
    print(cost.text)


def _report(profile: Profile, cells: dict[str, list[Cell]], folder: Path, options: argparse.Namespace) -> None:
    """Prints the chosen benchmarks; the files and the page hold all of the profile's, whatever --only chose."""
    from benchmarks.report import write_report

    texts = write_report(profile, _cells(profile, "") | cells, folder, options.reference)
    for name in cells:
        print(json.dumps({"benchmark": name, "report": texts[name]}) if options.json else "\n" + texts[name])
    if not options.json:
        print(f"written to {folder.resolve()}: index.html")
