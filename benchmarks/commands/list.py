"""``run_all.py list``: what there is to choose from."""

import argparse

from benchmarks.commands.request import Outcome, add_json, add_plugins, load_plugins
from benchmarks.listing import KINDS, listing

EXAMPLE = "list methods"


def add_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("kind", choices=KINDS, metavar="KIND", help=", ".join(KINDS))
    add_plugins(parser)
    add_json(parser)


def act(options: argparse.Namespace) -> Outcome:
    load_plugins(options)
    print(listing(options.kind, options.json))
    return Outcome()
