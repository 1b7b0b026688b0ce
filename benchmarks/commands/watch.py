"""``run_all.py watch``: shows the status until no process works on the runs."""

import argparse

from benchmarks.commands.request import Outcome
from benchmarks.commands.run import add_notify
from benchmarks.commands.status import add_asked, asked_for
from sskd.errors import UserError

EXAMPLE = "watch miniature --notify 'mail -s done me@example.org'"


def add_options(parser: argparse.ArgumentParser) -> None:
    add_asked(parser)
    add_notify(parser)


def act(options: argparse.Namespace) -> Outcome:
    from benchmarks.dispatch.status import summary, watch

    asked = list(asked_for(options))
    if len(asked) > 1:
        raise UserError(f"watch follows one folder: name one of {', '.join(each.name for each in asked)}")
    state = watch(asked[0].job, asked[0].cells)
    return Outcome(int(not state.all_finished), f"{asked[0].name}: {summary(state)}")
