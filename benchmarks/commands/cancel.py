"""``run_all.py cancel``: ends running and waiting runs; saved state is kept."""

import argparse

from benchmarks.commands.request import Outcome
from benchmarks.commands.status import add_asked, asked_for

EXAMPLE = "cancel miniature"


def add_options(parser: argparse.ArgumentParser) -> None:
    add_asked(parser)


def act(options: argparse.Namespace) -> Outcome:
    from benchmarks.dispatch.cancel import cancel
    from sskd.formatting import plural

    told = sum(cancel(asked.job, print, everything=options.all) for asked in asked_for(options))
    print(f"{plural(told, 'run')} told to save and end")
    return Outcome()
