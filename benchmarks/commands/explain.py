"""``run_all.py explain``: what a key of --set means."""

import argparse

from benchmarks.commands.request import Outcome, add_plugins, load_plugins

EXAMPLE = "explain recipe.full_epochs"


def add_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("key", metavar="KEY", help="of a profile (recipe.full_epochs) or of a cluster (cluster.time)")
    add_plugins(parser)


def act(options: argparse.Namespace) -> Outcome:
    from benchmarks.explain import explain

    load_plugins(options)
    print(explain(options.key))
    return Outcome()
