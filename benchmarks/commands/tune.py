"""``run_all.py tune``: searches the settings of methods under an equal budget, and compares the tuned methods."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from benchmarks.commands.request import Outcome, Request, add_cluster, add_profile, job_of, profile_of
from benchmarks.commands.run import execute, outcome_of
from sskd.errors import UserError

if TYPE_CHECKING:
    from benchmarks.dispatch.job import Failure
    from benchmarks.tuning.studies import Study
    from sskd.runs.spec import StudentSpec

EXAMPLE = "tune none,kd,sskd --budget 9 --studies 5 --profile miniature --set tuning.epochs=10 --dataset-root DIR"


def add_options(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add("methods", metavar="METHODS", help="by comma: none,kd,sskd")
    add(
        "--budget", type=int, required=True, metavar="B", help="trials of each search, the published setting among them"
    )
    add("--studies", type=int, required=True, metavar="R", help="independent searches; three or more give an interval")
    add_profile(parser)
    add_cluster(parser)
    add("--plan", action="store_true", help="only print the runs and what they cost")
    add("--retry-failed", action="store_true", help="try again what failed as often as the cluster's retries allow")
    parser.set_defaults(seeds="", name="", only="", reference="")


def act(options: argparse.Namespace) -> Outcome:
    from benchmarks.planning.plan import make_plan
    from benchmarks.report.report_folder import ReportTarget
    from benchmarks.tuning.spaces import space_of
    from benchmarks.tuning.studies import DIVERGED, Study, check_methods, save_study

    names = options.methods.split(",")
    options.methods = ""  # the profile's own stay: its report has them
    if options.studies < 1:
        raise UserError(f"--studies {options.studies}: expected at least 1, and at least 3 for an interval")
    profile = profile_of(options)
    check_methods(names)
    folder = options.results / profile.name
    options.name = f"{profile.name}_tune"
    studies = [
        Study(profile, name, space_of(name), number, options.budget, check=name == "kd" and number == 0)
        for name in names
        for number in range(options.studies)
    ]
    runs = folder / "runs"
    classes = partial(_classes, Path(profile.execution.dataset_root))

    def now() -> Request:
        plan = make_plan(spec for study in studies for spec in study.specs(runs))
        return Request(options, profile, {}, ReportTarget(folder, profile, {}), plan)

    if options.plan:
        print("\n".join(plan_lines(studies, now())))
        return Outcome()
    failures: dict[str, Failure] = {}
    seen: set[str] = set()
    for stage in ("trials and published settings", "chosen settings"):
        request = now()
        ids = {spec.id for spec in request.plan.runs}
        if ids <= seen:  # nothing was chosen, or the published settings alone
            break
        seen |= ids
        print(f"tuning: {stage}", flush=True)
        failures = execute(job_of(request), request)
        for study in studies:
            save_study(folder, study.file(runs, classes))
    return _ended(now(), {run: why for run, why in failures.items() if DIVERGED not in why.message})


def plan_lines(studies: Sequence[Study], request: Request) -> list[str]:
    """Describes the cost of the runs, in a line per method and a total. A final run whose setting is not chosen yet is
    assumed to cost as much as that of the published setting."""
    from benchmarks.dispatch.local import concurrency_of
    from benchmarks.planning.cost import plan_cost
    from benchmarks.planning.plan import statuses
    from sskd.formatting import duration, plural

    runs, plan = request.folder / "runs", request.plan
    cost = plan_cost(plan, runs, request.profile, concurrency_of(job_of(request).cluster))
    done = {run for run, status in statuses(plan, runs).items() if status.state == "finished"}
    lines, to_come, others = [], 0.0, {spec.id for spec in plan.runs}
    for method in dict.fromkeys(study.method for study in studies):
        own = [study for study in studies if study.method == method]
        known = {spec.id for study in own for spec in study.specs(runs)}
        open_runs = [study.default.id for study in own if study.chosen(runs) is None]
        others -= known
        left = sum(cost.seconds[run] for run in [*(known - done), *open_runs])
        to_come += sum(cost.seconds[run] for run in open_runs)
        trial, final = own[0].trials[0].spec.recipe.epochs, own[0].default.recipe.epochs
        checked = sum(len(study.full) for study in own)
        more = f", and {plural(checked, 'trial')} of {final} epochs to check the short ones" if checked else ""
        lines.append(
            f"{method}: {len(own)} x ({plural(len(own[0].trials), 'trial')} of {plural(trial, 'epoch')} + 2 final runs "
            f"of {final}){more}: {len(known) + len(open_runs)} runs, {len(known & done)} finished, "
            f"about {duration(left)} left"
        )
    if others:
        left = sum(cost.seconds[run] for run in others - done)
        count = f"{plural(len(others), 'run')}, {len(others & done)} finished"
        lines.append(f"teachers and heads: {count}, about {duration(left)} left")
    at = cost.concurrency
    total = cost._replace(left=cost.left + to_come, elapsed=cost.elapsed + to_come * at.share / at.runs)
    return [*lines, total.text]


def _classes(root: Path, spec: StudentSpec) -> int:
    from sskd.data.datasets.registry import dataset_info

    return dataset_info(spec.dataset, root)[0].num_classes


def _ended(request: Request, failures: dict[str, Failure]) -> Outcome:
    """Writes the report, and prints the failures."""
    from benchmarks.commands.request import cells_of_request
    from benchmarks.report.write import write_report

    profile, folder = request.profile, request.folder
    write_report(profile, cells_of_request(profile, "", folder), folder)
    print("\n" + (folder / "tuning.md").read_text(encoding="utf-8"))
    print(f"written to {folder.resolve() / 'index.html'}")
    for run, failure in failures.items():
        print(f"run_all: {run}: {failure.message}", file=sys.stderr)
    return outcome_of(request, failures, request.name)
