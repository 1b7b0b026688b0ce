"""``run_all.py merge``: copies other people's results into this folder, and writes the report."""

import argparse

from benchmarks.commands import report
from benchmarks.commands.request import Outcome, add_json, add_request, read_request

EXAMPLE = "merge alice=/data/alice/miniature bob=/data/bob/miniature --profile miniature"


def add_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("sources", nargs="+", metavar="DIR", help="results to copy: DIR, or NAME=DIR")
    add_request(parser)
    add_json(parser)


def act(options: argparse.Namespace) -> Outcome:
    from benchmarks.records.merge import merge

    request = read_request(options)
    merge(options.sources, request.folder, request.profile.name)
    return report.act(options)
