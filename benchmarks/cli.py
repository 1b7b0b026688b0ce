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
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from benchmarks.listing import KINDS, listing
from sskd.errors import UserError, refuse_null_bytes
from sskd.places import config_names
from sskd.training.signals import Stopped
from sskd.version import ShowVersion

if TYPE_CHECKING:
    from benchmarks.analysis.claims import Claim
    from benchmarks.dispatch.work import Work
    from benchmarks.dispatch.worker import Failure
    from benchmarks.plan import Plan
    from benchmarks.profiles.profile import Profile
    from benchmarks.report.placement import Placed
    from benchmarks.tables.benchmark import Cell
    from sskd.runs.spec import RunSpec

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
        default="demo",
        help=f"how much of everything: {', '.join(config_names('profiles'))}, or a YAML file (default: demo)",
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
    add(
        "--name",
        default="",
        metavar="NAME",
        help="the report goes to reports/NAME (default: made from the request, where that is not the profile's own)",
    )
    add(
        "--rerun",
        default="",
        metavar="NAMES",
        help="train anew what is finished, and keep the old beside it: methods, run ids, all, or changed (other code)",
    )
    add("--dataset-root", help="where data sets are (same as --set execution.dataset_root=...)")
    add("--results", type=Path, default=Path("results"), help="where results go (default: results)")
    add("--dry-run", action="store_true", help="print the plan and its cost, and run nothing")
    add(
        "--decide",
        default="",
        metavar="CLAIMS",
        help="run seed after seed until these claims of the paper are decided, by comma: C8,C9; needs --hours",
    )
    add("--hours", type=float, metavar="H", help="with --decide: the time that it may take")
    add("--report-only", action="store_true", help="make the report from what is there, and run nothing")
    add(
        "--cluster",
        help=f"where runs execute: {', '.join(config_names('clusters'))}, or a YAML file (default: the profile's)",
    )
    add("--detach", action="store_true", help="start or submit everything, and do not wait for it")
    add("--status", action="store_true", help="how far everything is, whoever started it")
    add("--cancel", action="store_true", help="end what runs or waits; what it has saved stays")
    add("--retry-failed", action="store_true", help="try again what failed as often as the cluster's retries allow")
    add("--submit", nargs="+", type=Path, metavar="RUN", help="make what others can check of these run folders")
    add("--verify", type=Path, metavar="SUBMISSION", help="check a submission by training parts of it again")
    add(
        "--seed",
        type=int,
        metavar="N",
        help="with --verify: the number that draws these parts; with --submit: open them",
    )
    add(
        "--merge",
        nargs="+",
        metavar="DIR",
        help="people's results (DIR, or NAME=DIR) into --results, and report",
    )
    add("--list", choices=KINDS, help="what there is, and stop")
    add("--explain", metavar="KEY", help="what a key of --set means (recipe.full_epochs), and stop")
    add("--json", action="store_true", help="with --list, --dry-run, --status or --report-only: print JSON")
    add("--version", action=ShowVersion)
    return parser


def _run(options: argparse.Namespace, arguments: Sequence[str]) -> int:
    if options.list:
        _load_plugins(options)
        print(listing(options.list, options.json))
        return 0
    if options.explain:
        from benchmarks.explain import explain

        _load_plugins(options)
        print(explain(options.explain))
        return 0
    if options.seed is not None and not (options.submit or options.verify):
        raise UserError("--seed is the number of --verify and --submit: seeds of runs are --seeds")
    if options.submit or options.verify:
        from benchmarks.records.commands import run_submit, run_verify

        _load_plugins(options)
        return run_submit(options) if options.submit else run_verify(options)
    from benchmarks.changes import to_train_anew
    from benchmarks.dispatch.launch import cancel
    from benchmarks.plan import check_runs, check_teachers, make_plan
    from benchmarks.report.placement import place, tell_finished
    from sskd.runs.run_folder import plain_os_errors
    from sskd.training.progress import plural

    profile = _profile(options)
    folder = options.results / profile.name
    with plain_os_errors("read", folder):
        folder.exists()  # a name that is too long, or a folder that may not be looked into
    if options.merge:
        from benchmarks.records.merge import merge

        merge(options.merge, folder, profile.name)
        options.report_only = True
    cells = _cells(profile, options.only, folder)
    claims = _claims(options)

    def placement() -> Placed:
        return place(profile, cells, options, lambda of, only: _cells(of, only, folder))

    placed = placement()
    if options.reference:  # a wrong name is told before anything is trained
        from benchmarks.analysis.reference import choose_reference

        choose_reference(placed.cells, options.reference)
    plan = make_plan(cell.spec for group in cells.values() for cell in group)
    work = _work(options, plan, folder, profile)
    root = Path(work.execution.dataset_root)
    anew = to_train_anew(plan, folder / "runs", options.rerun)
    if options.dry_run:
        todo = [spec for spec, state in _with_status(plan, folder, anew) if state != "finished"]
        check_runs(todo, root)
        _print_plan(plan, folder, profile, cells, anew, options)
        check_teachers(todo, root)  # last: a plan may be made where the weights are not
        return 0
    if options.status:
        from benchmarks.dispatch.status import show_status

        show_status(work, cells, options.json)
        return 0
    if options.cancel:
        print(f"told {plural(cancel(work, print), 'run')} to end")
        return 0
    failures: dict[str, Failure] = {}
    if options.report_only:
        if options.rerun:
            raise UserError("--rerun trains: leave it out, or --report-only")
        told = tell_finished(placed, folder / "runs")
        if not options.json:
            print(told)
    elif claims:
        from benchmarks.analysis.seeds import decide_claims

        def execute(wanted: Mapping[str, list[Cell]]) -> dict[str, Failure]:
            bought = make_plan(cell.spec for group in wanted.values() for cell in group)
            return _execute(_work(options, bought, folder, profile), folder)

        failures = decide_claims(claims, 3600 * options.hours, profile, folder, execute, print)
        cells = _cells(profile, options.only, folder)
        placed = placement()
    elif options.detach:
        from benchmarks.dispatch.detach import start_detached

        _ready(work, folder, anew)
        print(start_detached(work, arguments))
        return 0
    else:
        failures = _execute(work, folder, anew) | _probe(cells, profile, folder, work)
    _report(placed, cells, folder, options)
    by_message: dict[str, list[str]] = {}
    for run_id, failure in failures.items():
        by_message.setdefault(failure.message, []).append(run_id)
    for message, ids in by_message.items():
        more = f" and {len(ids) - 1} more" if len(ids) > 1 else ""
        print(f"run_all: {ids[0]}{more}: {message}", file=sys.stderr)
    if any(failure.input_is_bad for failure in failures.values()):
        return 2
    return 1 if failures else 0


def _claims(options: argparse.Namespace) -> list[Claim]:
    """What --decide names. UserError where it is not given as it must be."""
    if not options.decide:
        if options.hours is not None:
            raise UserError("--hours is the time that --decide may take: name claims with --decide C8,C9")
        return []
    from benchmarks.analysis.seeds import claims_named

    if options.hours is None or not options.hours > 0:
        raise UserError("--decide needs --hours, the time that it may take: --decide C8 --hours 10")
    if options.detach or options.report_only:
        raise UserError("--decide runs seed after seed and waits for each: not with --detach or --report-only")
    return claims_named(options.decide.split(","))


def _ready(work: Work, folder: Path, anew: Sequence[RunSpec]) -> int:
    """Before runs are started: refuses what cannot run, and sets aside what must be trained again, or is to be
    (``anew``). Returns how many are to be run."""
    from benchmarks.changes import describe_changes, keep_beside
    from benchmarks.plan import check_runs, check_teachers
    from sskd.runs.run_folder import check_writable
    from sskd.training.progress import plural

    root = Path(work.execution.dataset_root)
    check_writable(folder)
    states = _with_status(work.plan, folder, anew)
    todo = [spec for spec, state in states if state != "finished"]
    check_runs(todo, root)
    check_teachers(todo, root)
    _check_this_machine(work, todo)
    keep_beside(anew, folder / "runs", print)
    _set_aside([spec for spec, state in states if state == "weights lost"], folder)
    runs = plural(len(work.plan.runs), "run")
    print(f"{runs}, {len(work.plan.runs) - len(todo)} of them finished already", flush=True)
    print("".join(f"{line}\n" for line in describe_changes(work.plan, folder / "runs")), end="", flush=True)
    return len(todo)


def _execute(work: Work, folder: Path, anew: Sequence[RunSpec] = ()) -> dict[str, Failure]:
    """Runs what is not finished; returns the failures by run id."""
    from benchmarks.dispatch.launch import launch
    from sskd.training.progress import Progress

    with Progress(_ready(work, folder, anew)) as progress:
        return launch(work, progress)


def _probe(cells: Mapping[str, list[Cell]], profile: Profile, folder: Path, work: Work) -> dict[str, Failure]:
    """Makes the linear probes of finished runs that benchmarks ask for; the failures by run and data set."""
    from benchmarks.analysis.probes import make_probes, probes_of
    from benchmarks.dispatch.worker import Failure

    made = make_probes(probes_of(cells, profile), folder / "runs", work.execution, lambda line: print(line, flush=True))
    return {what: Failure(message) for what, message in made.items()}


def _work(options: argparse.Namespace, plan: Plan, folder: Path, profile: Profile) -> Work:
    """What to execute and where; paths absolute, for processes that start elsewhere."""
    from benchmarks.dispatch.cluster import read_cluster
    from benchmarks.dispatch.work import Work

    settings = [setting[len(CLUSTER) :] for setting in options.set if setting.startswith(CLUSTER)]
    root = str(Path(profile.execution.dataset_root).resolve())
    cluster = read_cluster(options.cluster or profile.cluster, settings)
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
        from sskd.runs.plugins import load_plugins

        load_plugins(options.plugin)


def _profile(options: argparse.Namespace) -> Profile:
    from benchmarks.profiles.read import parse_method, read_profile
    from benchmarks.tables.benchmark import check_benchmarks
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
    profile = read_profile(options.profile, settings, options.plugin)
    check_benchmarks(profile)
    return profile


def _cells(profile: Profile, only: str, folder: Path) -> dict[str, list[Cell]]:
    from benchmarks.analysis.seeds import cells_of

    return cells_of(profile, only.split(",") if only else profile.benchmarks, folder)


def _with_status(plan: Plan, folder: Path, anew: Sequence[RunSpec]) -> list[tuple[RunSpec, str]]:
    from benchmarks.plan import statuses

    known = statuses(plan, folder / "runs", {spec.id for spec in anew})
    return [(spec, known[spec.id].state) for spec in plan.runs]


def _set_aside(lost: Sequence[RunSpec], folder: Path) -> None:
    from sskd.runs.run_folder import RunFolder

    for spec in lost:
        print(f"{spec.id} is finished, but its weights are not here, and other runs need them: it is trained again")
        RunFolder(folder / "runs", spec).set_aside()


def _check_this_machine(work: Work, todo: Sequence[RunSpec]) -> None:
    """UserError where what runs here has no data, or not the device that is asked for. Slurm's nodes may have both."""
    from benchmarks.plan import refuse_hopeless
    from sskd.device import device_of

    if work.cluster.kind == "slurm":
        return
    refuse_hopeless(todo, Path(work.execution.dataset_root))
    if work.execution.device != "auto":
        device_of(work.execution)


def _label(spec: RunSpec) -> str:
    """The method as tables name it: an id has its name alone, the same for crd and crd+kd."""
    from benchmarks.tables.spec_builder import run_label

    return f" ({label})" if (label := run_label(spec)) else ""


def _print_plan(
    plan: Plan,
    folder: Path,
    profile: Profile,
    cells: Mapping[str, list[Cell]],
    anew: Sequence[RunSpec],
    options: argparse.Namespace,
) -> None:
    """The runs, what they cost, and what the paper's claims lack; with --decide what would be bought."""
    from benchmarks.analysis.claims import CLAIMS
    from benchmarks.analysis.probes import probes_cost, probes_of
    from benchmarks.analysis.seeds import look, need_lines, need_rows, offer_lines
    from benchmarks.changes import changed_runs, describe_changes
    from benchmarks.cost import describe_cost, plan_cost
    from benchmarks.plan import statuses
    from benchmarks.tables.spec_builder import run_label
    from sskd.training.progress import plural

    claims = _claims(options) or [claim for claim in CLAIMS if claim.benchmark in cells]
    market, runs = look(claims, profile, folder), folder / "runs"
    known, cost = statuses(plan, runs, {spec.id for spec in anew}), plan_cost(plan, runs, profile)
    cost = cost._replace(left=cost.left + sum(cost.seconds[spec.id] for spec in anew if spec.trains))
    changed = changed_runs(plan.runs, runs)
    probes = probes_cost(probes_of(cells, profile), runs, Path(profile.execution.dataset_root), cost.rate)
    if options.json:
        rows = [
            {
                "id": spec.id,
                "label": run_label(spec),
                "stage": number,
                "state": known[spec.id].state,
                "why": known[spec.id].message,
                "changed": changed.get(spec.id, ""),
                "needs": [needed.id for needed in spec.needs],
                "multiply_adds": cost.multiply_adds[spec.id],
                "seconds": cost.seconds[spec.id],
            }
            for number, stage in enumerate(plan.stages)
            for spec in stage
        ]
        rate = {"rate": cost.rate, "rate_from": cost.source, "assumed": cost.assumed}
        print(
            json.dumps(
                {"runs": rows, "seconds": cost.left, **rate, "claims": need_rows(market), "probes": probes._asdict()},
                indent=1,
            )
        )
        return
    for number, stage in enumerate(plan.stages, start=1):
        print(f"stage {number}: {plural(len(stage), 'run')}")
        for spec in stage:
            waits = f", after {', '.join(needed.id for needed in spec.needs)}" if spec.needs else ""
            other = f" with other code ({changed[spec.id]})" if spec.id in changed else ""
            why = f" ({known[spec.id].message})" if known[spec.id].message else ""
            state = f"{known[spec.id].state}{why}{other}"
            print(f"  {spec.id}{_label(spec)}: {state}{waits}, {describe_cost(cost, spec.id)}")
    if probes.number:
        print(probes.text)
    print("\n".join([cost.text, *describe_changes(plan, runs)]))
    if claims:
        print("the paper's claims:")
    for line in offer_lines(market, 3600 * options.hours) if options.decide else need_lines(market):
        print(f"  {line}")


def _report(placed: Placed, cells: dict[str, list[Cell]], folder: Path, options: argparse.Namespace) -> None:
    """Prints the chosen benchmarks; the files and the page hold all that benchmarks.report.placement says."""
    from benchmarks.report.write import write_report

    placed.note()
    texts = write_report(placed.profile, placed.cells, placed.folder, options.reference, folder / "runs")
    for name in cells:
        print(json.dumps({"benchmark": name, "report": texts[name]}) if options.json else "\n" + texts[name])
    if not options.json:
        print(f"written to {placed.folder.resolve() / 'index.html'}")
