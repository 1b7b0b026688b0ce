"""run_all.py's options and what they do. Exit status: 0 all finished, 1 something failed, 2 bad input, 130, 143
or 129 ended by Ctrl-C, SIGTERM or a closed terminal.

What takes seconds to import (torch, pandas, ...) is imported where it is needed: help and errors come at once.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from benchmarks.listing import listing
from benchmarks.options import CLUSTER, check_options, make_parser, narrows
from sskd.arguments import print_whatever_comes
from sskd.errors import UserError, in_words, refuse_null_bytes
from sskd.training.signals import Stopped

if TYPE_CHECKING:
    from benchmarks.analysis.claims import Claim
    from benchmarks.dispatch.work import Work
    from benchmarks.dispatch.worker import Failure
    from benchmarks.plan import Plan
    from benchmarks.profiles.profile import Profile
    from benchmarks.report.placement import Placed
    from benchmarks.tables.benchmark import Cell
    from sskd.runs.spec import RunSpec


class Outcome(NamedTuple):
    """How a command ended: its exit status, and a line of what it did, for --notify."""

    status: int = 0
    words: str = ""


def main(arguments: Sequence[str] | None = None) -> int:
    print_whatever_comes()
    arguments = sys.argv[1:] if arguments is None else arguments
    options = make_parser().parse_args(arguments)
    try:
        refuse_null_bytes(arguments)
        check_options(options)
    except UserError as error:
        print(f"run_all: {error}", file=sys.stderr)
        return 2
    outcome = _ended(options, arguments)
    if options.notify and not options.detach:  # detached, the process that goes on does it
        from benchmarks.notify import notify

        notify(options.notify, *outcome)
    return outcome.status


def _ended(options: argparse.Namespace, arguments: Sequence[str]) -> Outcome:
    """Does what is asked for; what ends it is said in a line, and is the status."""
    try:
        outcome = _run(options, arguments)
        sys.stdout.flush()
        return outcome
    except BrokenPipeError:  # whoever read the output has seen enough: "| head"
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # else Python fails again when it ends
        return Outcome(141, "nobody read the output any more")
    except (UserError, OSError) as error:  # OSError: what this user may not read or write, wherever it is met
        print(f"run_all: {in_words(error)}", file=sys.stderr)
        return Outcome(2, in_words(error))
    except KeyboardInterrupt as end:
        words = "stopped; the same command goes on where it was"
        print(f"\nrun_all: {words}", file=sys.stderr)
        return Outcome(end.status if isinstance(end, Stopped) else 130, words)


def _run(options: argparse.Namespace, arguments: Sequence[str]) -> Outcome:
    if options.list:
        _load_plugins(options)
        print(listing(options.list, options.json, with_plugins=bool(options.plugin)))
        return Outcome()
    if options.explain:  # without a key it is of the profile, which is to be read first
        from benchmarks.explain import explain

        _load_plugins(options)
        print(explain(options.explain))
        return Outcome()
    if options.seed is not None and not (options.submit or options.verify):
        raise UserError("--seed is the number of --verify and --submit: seeds of runs are --seeds")
    if options.segments is not None and not (options.submit or options.verify):
        raise UserError("--segments says how much --verify and --submit draw")
    if options.submit or options.verify:
        from benchmarks.records.commands import run_submit, run_verify

        _load_plugins(options)
        return Outcome(run_submit(options) if options.submit else run_verify(options))
    from benchmarks.changes import to_train_anew
    from benchmarks.dispatch.cancel import cancel
    from benchmarks.plan import check_runs, check_teachers, make_plan, statuses
    from benchmarks.ready import damaged, make_ready, room, with_status
    from benchmarks.report.placement import place, tell_finished
    from sskd.runs.files import plain_os_errors
    from sskd.training.words import plural

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
    if options.explain is not None:
        from benchmarks.dispatch.local import at_once
        from benchmarks.explain_profile import explain_profile

        print(explain_profile(profile, plan, cells, folder, at_once(work.cluster)))
        return Outcome()
    if options.dry_run:
        from benchmarks.analysis.claims import CLAIMS
        from benchmarks.dispatch.local import at_once
        from benchmarks.dispatch.slurm_queue import check_time
        from benchmarks.dry_run import print_plan

        todo = [spec for spec, state in with_status(plan, folder, anew) if state != "finished"]
        check_runs(todo, profile, root, room(work))
        if work.cluster.kind == "slurm":
            check_time(work.cluster)
        shown = claims or [claim for claim in CLAIMS if claim.benchmark in cells]
        print_plan(plan, folder, profile, cells, shown, anew, at_once(work.cluster), options)
        for line in check_teachers(todo, root):  # last: a plan may be made where the weights are not
            print(line, file=sys.stderr if options.json else sys.stdout)
        return Outcome()
    if options.status:
        from benchmarks.dispatch.status import show_status, summary, watch

        if not options.watch:
            show_status(work, cells, options.json)
            return Outcome()
        state = watch(work, cells)
        return Outcome(int(not state.all_finished), f"{profile.name}: {summary(state)}")
    if options.cancel:
        print(f"told {plural(cancel(work, print, everything=not narrows(options)), 'run')} to end")
        return Outcome()
    if options.export:
        from benchmarks.export import export_students

        export_students(plan, folder / "runs", options.export, options.licence, options.onnx, print)
        return Outcome()
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
            return _execute(_work(options, bought, folder, profile), profile, folder)

        failures = decide_claims(claims, 3600 * options.hours, profile, folder, execute, print)
        cells = _cells(profile, options.only, folder)
        placed = placement()
    elif options.detach:
        from benchmarks.dispatch.detach import start_detached

        if options.notify and work.cluster.kind == "slurm":
            raise UserError("--detach submits to Slurm and does not wait: use --notify with --status --watch")
        make_ready(work, profile, folder, anew)
        print(start_detached(work, arguments))
        return Outcome()
    else:
        failures = _execute(work, profile, folder, anew) | _probe(cells, profile, folder, work)
    if not options.report_only:
        whole = make_plan(cell.spec for group in cells.values() for cell in group)
        failures |= damaged(statuses(whole, folder / "runs"))
    _report(placed, cells, folder, options)
    by_message: dict[str, list[str]] = {}
    for run_id, failure in failures.items():
        by_message.setdefault(failure.message, []).append(run_id)
    for message, ids in by_message.items():
        more = f" and {len(ids) - 1} more" if len(ids) > 1 else ""
        print(f"run_all: {ids[0]}{more}: {message}", file=sys.stderr)
    status = 2 if any(failure.input_is_bad for failure in failures.values()) else 1 if failures else 0
    failed = f", {plural(len(failures), 'run')} failed or not started" if failures else ""
    return Outcome(status, f"{profile.name}: {plural(len(plan.runs), 'run')}{failed}; {placed.folder.resolve()}")


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


def _execute(work: Work, profile: Profile, folder: Path, anew: Sequence[RunSpec] = ()) -> dict[str, Failure]:
    """Runs what is not finished; returns the failures by run id."""
    from benchmarks.dispatch.launch import launch
    from benchmarks.ready import make_ready
    from sskd.training.progress import Progress

    with Progress(make_ready(work, profile, folder, anew)) as progress:
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


def _report(placed: Placed, cells: dict[str, list[Cell]], folder: Path, options: argparse.Namespace) -> None:
    """Prints the chosen benchmarks; the files and the page hold all that benchmarks.report.placement says."""
    from benchmarks.report.write import write_report

    placed.note()
    texts = write_report(placed.profile, placed.cells, placed.folder, options.reference, folder / "runs")
    for name in cells:
        print(json.dumps({"benchmark": name, "report": texts[name]}) if options.json else "\n" + texts[name])
    if not options.json:
        print(f"written to {placed.folder.resolve() / 'index.html'}")
