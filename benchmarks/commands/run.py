"""``run_all.py run``: trains the missing runs, then writes the report."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from benchmarks.commands.report import write
from benchmarks.commands.request import Outcome, Request, add_cluster, add_request, job_of, read_request, save_request
from sskd.errors import UserError

if TYPE_CHECKING:
    from benchmarks.dispatch.job import Failure, Job
    from sskd.runs.spec import RunSpec

EXAMPLE = "run --profile miniature --only comparison --methods none,kd,sskd --dataset-root DIR"


def add_options(parser: argparse.ArgumentParser) -> None:
    add_request(parser)
    add_cluster(parser)
    add = parser.add_argument
    add("--detach", action="store_true", help="start in the background, or submit, and return immediately")
    add_notify(parser)
    add_rerun(parser)
    add("--retry-failed", action="store_true", help="start runs again that failed after all of the cluster's retries")


def add_rerun(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--rerun",
        default="",
        metavar="NAMES",
        help="train finished runs again and archive the old ones: methods, run ids, all, or changed (other code)",
    )


def add_notify(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--notify",
        metavar="CMD",
        help="a shell command for the end: SSKD_STATUS and SSKD_SUMMARY say how it was, as does its last argument",
    )


def act(options: argparse.Namespace) -> Outcome:
    from benchmarks.planning.staleness import runs_to_rerun

    request = read_request(options)
    job = job_of(request)
    rerun = runs_to_rerun(request.plan, request.folder / "runs", options.rerun)
    if options.detach:
        return _detach(request, job, rerun)
    save_request(request)
    return ended(request, execute(job, request, rerun) | _probe(request, job))


def execute(job: Job, request: Request, rerun: Sequence[RunSpec] = ()) -> dict[str, Failure]:
    """Trains the unfinished runs. Returns the failures by run id."""
    from benchmarks.commands.preflight import preflight
    from benchmarks.dispatch.launch import launch
    from sskd.console.progress import Progress

    with Progress(preflight(job, request.profile, request.folder, rerun)) as progress:
        return launch(job, progress)


def ended(request: Request, failures: Mapping[str, Failure]) -> Outcome:
    """Writes the report, and prints each distinct failure once. A finished run whose result cannot be read counts as
    failed."""
    from benchmarks.commands.preflight import damaged
    from benchmarks.planning.plan import statuses
    from sskd.formatting import first_of

    failures = {**failures, **damaged(statuses(request.plan, request.folder / "runs"))}
    write(request)
    by_message: dict[str, list[str]] = {}
    for run_id, failure in failures.items():
        by_message.setdefault(failure.message, []).append(run_id)
    for message, ids in by_message.items():
        print(f"run_all: {first_of(ids, 1)}: {message}", file=sys.stderr)
    return outcome_of(request, failures, request.profile.name)


def outcome_of(request: Request, failures: Mapping[str, Failure], name: str) -> Outcome:
    """Returns the exit status of a request with these failures, and its summary, which begins with ``name``."""
    from sskd.formatting import plural

    status = 2 if any(failure.kind == "input" for failure in failures.values()) else 1 if failures else 0
    failed = f", {plural(len(failures), 'run')} failed or not started" if failures else ""
    runs, folder = plural(len(request.plan.runs), "run"), request.target.folder.resolve()
    return Outcome(status, f"{name}: {runs}{failed}; {folder}")


def _detach(request: Request, job: Job, rerun: Sequence[RunSpec]) -> Outcome:
    from benchmarks.commands.main import program
    from benchmarks.commands.preflight import preflight
    from benchmarks.dispatch.launch import start_detached

    options = request.options
    if options.notify and job.cluster.kind == "slurm":
        raise UserError(
            "--notify does not work with --detach on Slurm, which does not wait: use --notify with the verb watch"
        )
    preflight(job, request.profile, request.folder, rerun)
    name = save_request(request)
    print(start_detached(job, [word for word in options.arguments if word != "--detach"]))
    where = "" if str(options.results) == "results" else f" --results {options.results}"
    print(f"see {program()} status {name}{where}")
    return Outcome()


def _probe(request: Request, job: Job) -> dict[str, Failure]:
    """Computes the linear probes of finished runs. Returns the failures by run and data set."""
    from benchmarks.analysis.probes import make_probes, probes_of
    from benchmarks.dispatch.job import Failure

    wanted = probes_of(request.cells, request.profile)
    made = make_probes(wanted, request.folder / "runs", job.execution, lambda line: print(line, flush=True))
    return {what: Failure(message) for what, message in made.items()}
