"""The command line of the suite: a verb, implemented in the module of its name, and its options. Default: ``run``.

Exit status: 0 success, 1 something failed, 2 invalid input; 129, 130 or 143 after a closed terminal, Ctrl-C or SIGTERM.
"""

import argparse
import importlib
import os
import sys
from collections.abc import Sequence
from pathlib import Path

from benchmarks.commands.request import Outcome
from sskd.arguments import Parser, replace_unencodable_output
from sskd.console.signals import Stopped
from sskd.errors import UserError, in_words, refuse_null_bytes
from sskd.version import ShowVersion

VERBS = {
    "run": "train what is missing, then report (what no verb means)",
    "plan": "the runs, what they wait for, what they cost, and what is missing; trains nothing",
    "report": "tables, figures and the page, from what is finished",
    "status": "how far everything is, whoever started it",
    "watch": "status, until nobody works on it any more",
    "cancel": "end what runs or waits; what it has saved stays",
    "decide": "run seed after seed until claims of the paper are decided",
    "tune": "search methods' settings under an equal budget, and compare what it chose",
    "export": "every finished student as a folder to take home",
    "submit": "make a record of finished runs that others can check",
    "verify": "check such a record by training parts of it again",
    "merge": "other people's results into these, and report",
    "list": "what there is: methods, networks, data sets, ...",
    "explain": "what a key of --set means",
}
# options of earlier versions that were verbs
EARLIER = {f"--{verb}": verb for verb in ("status", "watch", "cancel", "decide", "export", "submit", "verify", "merge")}
EARLIER |= {"--list": "list", "--explain": "explain", "--dry-run": "plan", "--report-only": "report"}


def program() -> str:
    return "sskd-suite" if Path(sys.argv[0]).stem == "sskd-suite" else "run_all.py"


def make_parser() -> Parser:
    parser = Parser(
        prog=program(),
        description="Regenerates the tables and figures of SSKD (ECCV 2020), as far as asked.",
        epilog=f"{program()} VERB --help tells a verb's options; without a verb they are those of run.",
    )
    parser.add_argument("--version", action=ShowVersion)
    verbs = parser.add_subparsers(dest="verb", required=True, metavar="VERB")
    for verb, about in VERBS.items():
        module = importlib.import_module(f"benchmarks.commands.{verb}")
        own = verbs.add_parser(verb, help=about, description=about, epilog=f"example: {program()} {module.EXAMPLE}")
        module.add_options(own)
        own.set_defaults(act=module.act)
    return parser


def with_verb(arguments: Sequence[str]) -> list[str]:
    """Adds the verb ``run`` if no verb is given. Raises UserError for an option of earlier versions that is now a
    verb."""
    for argument in arguments:
        verb = EARLIER.get(argument.partition("=")[0])
        if verb:
            raise UserError(f"{argument} is a verb now: {program()} {verb} ..., see {program()} {verb} --help")
    first = arguments[0] if arguments else ""
    if first in VERBS or first in ("-h", "--help", "--version") or (first and not first.startswith("-")):
        return list(arguments)
    return ["run", *arguments]


def main(arguments: Sequence[str] | None = None) -> int:
    replace_unencodable_output()
    arguments = sys.argv[1:] if arguments is None else arguments
    try:
        refuse_null_bytes(arguments)
        arguments = with_verb(arguments)
    except UserError as error:
        print(f"run_all: {error}", file=sys.stderr)
        return 2
    options = make_parser().parse_args(arguments)
    options.arguments, command = arguments, getattr(options, "notify", None)
    if command is not None and not command.strip():
        print("run_all: --notify needs a command", file=sys.stderr)
        return 2
    outcome = _ended(options)
    if command and not getattr(options, "detach", False):  # detached, the process that goes on does it
        from benchmarks.commands.notify import notify

        notify(command, *outcome)
    return outcome.status


def _ended(options: argparse.Namespace) -> Outcome:
    """Runs the command; an exception becomes a line on stderr and the exit status."""
    try:
        outcome: Outcome = options.act(options)
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
