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
from sskd.errors import UserError, in_words
from sskd.version import ShowVersion

VERBS = (
    *("run", "plan", "report", "status", "watch", "cancel", "decide", "tune"),
    *("export", "submit", "verify", "merge", "list", "explain"),
)


def program() -> str:
    return "sskd-suite" if Path(sys.argv[0]).stem == "sskd-suite" else "run_all.py"


def make_parser() -> Parser:
    parser = Parser(
        prog=program(),
        description="Reproduces the tables and figures of SSKD (ECCV 2020) and compares distillation methods.",
        epilog=f"{program()} VERB --help lists a verb's options; the default verb is run.",
    )
    parser.verbs = {f"--{verb}": verb for verb in VERBS} | {"--dry-run": "plan"}
    parser.add_argument("--version", action=ShowVersion)
    verbs = parser.add_subparsers(dest="verb", required=True, metavar="VERB")
    for verb in VERBS:
        module = importlib.import_module(f"benchmarks.commands.{verb}")
        about = (module.__doc__ or "").partition(": ")[2]
        own = verbs.add_parser(verb, help=about, description=about, epilog=f"example: {program()} {module.EXAMPLE}")
        module.add_options(own)
        own.set_defaults(act=module.act)
    return parser


def with_verb(arguments: Sequence[str]) -> list[str]:
    """Adds the verb ``run`` if no verb is given."""
    first = arguments[0] if arguments else ""
    if first in VERBS or first in ("-h", "--help", "--version") or (first and not first.startswith("-")):
        return list(arguments)
    return ["run", *arguments]


def main(arguments: Sequence[str] | None = None) -> int:
    replace_unencodable_output()
    arguments = sys.argv[1:] if arguments is None else arguments
    arguments = with_verb(arguments)
    options = make_parser().parse_args(arguments)
    options.arguments, command = arguments, getattr(options, "notify", None)
    if command is not None and not command.strip():
        print("run_all: --notify: expected a shell command, got an empty text", file=sys.stderr)
        return 2
    outcome = _ended(options)
    if command and not getattr(options, "detach", False):  # with --detach the background process does it
        from benchmarks.commands.notify import notify

        notify(command, *outcome)
    return outcome.status


def _ended(options: argparse.Namespace) -> Outcome:
    """Runs the command; an exception becomes a line on stderr and the exit status."""
    try:
        outcome: Outcome = options.act(options)
        sys.stdout.flush()
        return outcome
    except BrokenPipeError:  # the reader has closed the pipe: "| head"
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # otherwise Python fails again at exit
        return Outcome(141, "the output was closed by its reader")
    except (UserError, OSError) as error:  # OSError: for example missing permissions
        print(f"run_all: {in_words(error)}", file=sys.stderr)
        return Outcome(2, in_words(error))
    except KeyboardInterrupt as end:
        words = "stopped; the same command resumes"
        print(f"\nrun_all: {words}", file=sys.stderr)
        return Outcome(end.status if isinstance(end, Stopped) else 130, words)
