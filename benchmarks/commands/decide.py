"""``run_all.py decide``: trains seed after seed until claims, or two methods, are decided, or the time is used up."""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from typing import TYPE_CHECKING

from benchmarks.commands.request import Outcome, add_cluster, add_request, job_of, read_request
from benchmarks.commands.run import ended, execute
from sskd.errors import UserError

if TYPE_CHECKING:
    from benchmarks.dispatch.job import Failure
    from benchmarks.tables.cell import Cell

EXAMPLE = "decide C8,sskd-crd --hours 10 --profile miniature --dataset-root DIR"


def add_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "claims", metavar="CLAIMS", help="claims of the paper, or two methods, separated by commas: C8,sskd-crd"
    )
    parser.add_argument("--hours", type=float, required=True, metavar="H", help="time budget in hours")
    add_request(parser)
    add_cluster(parser)
    parser.add_argument("--offers", action="store_true", help="only print which seeds would be run, and their cost")


def act(options: argparse.Namespace) -> Outcome:
    from benchmarks.commands.seeds import allocation_lines, assess, claims_named, decide_claims
    from benchmarks.planning.plan import make_plan

    if not options.hours > 0:
        raise UserError(f"--hours {options.hours:g}: the time budget must be above 0")
    request = read_request(options)
    claims = claims_named(options.claims.split(","), request.profile)
    profile, folder, seconds = request.profile, request.folder, 3600 * options.hours
    if options.offers:
        print("\n".join(allocation_lines(assess(claims, profile, folder), seconds)))
        return Outcome()

    def train(wanted: Mapping[str, list[Cell]]) -> dict[str, Failure]:
        plan = make_plan(cell.spec for group in wanted.values() for cell in group)
        return execute(job_of(request, plan), request)

    failures = decide_claims(claims, seconds, profile, folder, train, print)
    return ended(read_request(options), failures)  # read again, because seeds were added
