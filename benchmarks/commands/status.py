"""``run_all.py status``: prints the progress of all runs, from run folders, locks and Slurm's queue."""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from benchmarks.commands.request import (
    Outcome,
    add_cluster,
    add_json,
    add_request,
    job_of,
    read_request,
    recall_request,
)
from sskd.errors import UserError

if TYPE_CHECKING:
    from benchmarks.dispatch.job import Job
    from benchmarks.tables.cell import Cell

EXAMPLE = "status miniature"


class Asked(NamedTuple):
    """The job that a command refers to."""

    name: str  # name of the profile
    job: Job
    cells: dict[str, list[Cell]]


def add_options(parser: argparse.ArgumentParser) -> None:
    add_asked(parser)
    add_json(parser)


def add_asked(parser: argparse.ArgumentParser) -> None:
    """Adds the name of a saved request, the options of a request, and --all."""
    parser.add_argument("request", nargs="?", metavar="NAME", help="name of a request that `run` has saved")
    parser.add_argument("--all", action="store_true", help="all runs of this results folder, whoever started them")
    add_request(parser)
    add_cluster(parser)


def act(options: argparse.Namespace) -> Outcome:
    from benchmarks.dispatch.status import show_status

    for asked in asked_for(options):
        show_status(asked.job, asked.cells, options.json)
    return Outcome()


def asked_for(options: argparse.Namespace) -> Iterator[Asked]:
    """Yields the jobs. Raises UserError if more than one of NAME, --all and a request's options is given."""
    given = [f"--{word}" for word in ("only", "methods", "seeds", "set", "name", "reference") if getattr(options, word)]
    given += ["--profile"] if options.profile != "demo" else []
    if options.all and (options.request or given):
        raise UserError(f"--all cannot be combined with {options.request or given[0]}: remove one of them")
    if options.request and given:
        raise UserError(f"the saved request {options.request} already has its options: remove {given[0]}")
    if options.all:
        return _all(options.results)
    if options.request:
        recall_request(options, options.request)
    request = read_request(options)
    return iter([Asked(request.profile.name, job_of(request), request.cells)])


def _all(results: Path) -> Iterator[Asked]:
    """Yields a job without runs of its own for the folder of every profile. All runs in the folder are therefore shown
    as runs of other requests."""
    from benchmarks.dispatch.cluster import read_cluster
    from benchmarks.dispatch.job import Job
    from benchmarks.planning.plan import Plan
    from sskd.config.execution import Execution

    found = sorted({path.parent for part in ("runs", "jobs") for path in results.glob(f"*/{part}") if path.is_dir()})
    if not found:
        raise UserError(f"no results in {results.resolve()}: give their folder with --results DIR")
    for folder in found:
        job = Job(Plan([]), (folder / "runs").resolve(), Execution(), read_cluster("inline", []))
        yield Asked(folder.name, job, {})
