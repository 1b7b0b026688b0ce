"""run_all.py's options, and which of them go together."""

import argparse
import shlex
import sys
from collections.abc import Sequence
from pathlib import Path

from benchmarks.listing import KINDS
from sskd.arguments import Parser, file_path
from sskd.errors import UserError
from sskd.places import config_names
from sskd.version import ShowVersion

CLUSTER = "cluster."  # what --set gives to the cluster's file and not to the profile's
ONLY_STARTS = ("--notify", "--rerun")  # options with a value that mean nothing with --status
STOPS = (
    "list",
    "dry_run",
    "cancel",
    "report_only",
    "export",
    "submit",
    "verify",
    "merge",
)  # options with which no run is waited for


def _program() -> str:
    return "sskd-suite" if Path(sys.argv[0]).stem == "sskd-suite" else "run_all.py"


def status_command(arguments: Sequence[str]) -> str:
    """The command that shows the state of what a command has started, for a shell."""
    kept: list[str] = []
    for position, argument in enumerate(arguments):
        of_value = position > 0 and arguments[position - 1] in ONLY_STARTS
        if argument.partition("=")[0] not in ("--detach", "--retry-failed", *ONLY_STARTS) and not of_value:
            kept.append(argument)
    start = [_program()] if _program() == "sskd-suite" else ["python", _program()]
    return shlex.join([*start, *kept, "--status"])


def make_parser() -> argparse.ArgumentParser:
    parser = Parser(
        prog=_program(),
        description="Regenerates the tables and figures of SSKD (ECCV 2020), as far as asked.",
    )
    add = parser.add_argument
    add(
        "--profile",
        default="demo",
        help=f"how much of everything: {', '.join(config_names('profiles'))}, or a YAML file (default: demo)",
    )
    add("--only", default="", metavar="IDS", help="benchmarks, by comma (default: the profile's)")
    add(
        "--methods",
        default="",
        metavar="NAMES",
        help="methods of the comparison, by comma: kd,crd,crd+kd, or all",
    )
    add("--seeds", default="", metavar="NUMBERS", help="seeds, by comma")
    add(
        "--set",
        nargs="+",
        action="extend",
        default=[],
        metavar="KEY=VALUE",
        help="override of the profile: recipe.epochs=3; or of the cluster: cluster.time=4:00:00",
    )
    add(
        "--plugin",
        action="append",
        default=[],
        metavar="FILE.py",
        help="a Python file of your own methods, networks, ...",
    )
    add(
        "--reference",
        default="",
        metavar="NAME",
        help="the method that all others are compared with (default: the newest of your own, else SSKD)",
    )
    add(
        "--name",
        default="",
        metavar="NAME",
        help="the report goes to reports/NAME (default: made from the request, where that is not the profile's own)",
    )
    add(
        "--rerun",
        default="",
        metavar="NAMES",
        help="train anew what is finished, and keep the old beside it: methods, run ids, all, or changed (other code)",
    )
    add("--dataset-root", help="where data sets are (same as --set execution.dataset_root=...)")
    add("--results", type=file_path, default=Path("results"), help="where results go (default: results)")
    add("--dry-run", action="store_true", help="print the plan and its cost, and run nothing")
    add(
        "--decide",
        default="",
        metavar="CLAIMS",
        help="run seed after seed until these claims of the paper are decided, by comma: C8,C9; needs --hours",
    )
    add("--hours", type=float, metavar="H", help="with --decide: the time that it may take")
    add("--report-only", action="store_true", help="make the report from what is there, and run nothing")
    add(
        "--cluster",
        help=f"where runs execute: {', '.join(config_names('clusters'))}, or a YAML file (default: the profile's)",
    )
    add("--detach", action="store_true", help="start or submit everything, and do not wait for it")
    add("--status", action="store_true", help="how far everything is, whoever started it")
    add("--watch", action="store_true", help="with --status: until nobody works on it any more")
    add(
        "--notify",
        metavar="CMD",
        help="a shell command for the end: SSKD_STATUS and SSKD_SUMMARY say how it was, as does its last argument",
    )
    add("--cancel", action="store_true", help="end what runs or waits, all of the profile or what is chosen")
    add("--retry-failed", action="store_true", help="try again what failed as often as the cluster's retries allow")
    add("--submit", nargs="+", type=file_path, metavar="RUN", help="make what others can check of these run folders")
    add("--verify", type=file_path, metavar="SUBMISSION", help="check a submission by training parts of it again")
    add(
        "--seed",
        type=int,
        metavar="N",
        help="with --verify: the number that draws these parts; with --submit: open them",
    )
    add(
        "--segments",
        type=int,
        metavar="N",
        help="with --verify and --submit: how many parts the number draws (default: 3)",
    )
    add(
        "--merge",
        nargs="+",
        metavar="DIR",
        help="people's results (DIR, or NAME=DIR) into --results, and report",
    )
    add("--list", choices=KINDS, help="what there is, and stop")
    add(
        "--explain",
        metavar="KEY",
        nargs="?",
        const="",
        help="what a key of --set means (recipe.full_epochs), or without one what the profile is for; and stop",
    )
    add("--export", type=file_path, metavar="DIR", help="every finished student as a folder to take home, and stop")
    add("--onnx", action="store_true", help="with --export: also as ONNX, checked (extra: onnx)")
    add("--licence", "--license", default="unknown", help="with --export: of the weights, by the hub's name: mit, ...")
    add("--json", action="store_true", help="with --list, --dry-run, --status or --report-only: print JSON")
    add("--version", action=ShowVersion)
    return parser


def narrows(options: argparse.Namespace) -> bool:
    """Whether the command asks for certain runs, and not for whatever its profile's folder has."""
    settings = [setting for setting in options.set if not setting.startswith((CLUSTER, "execution."))]
    return bool(options.only or options.methods or options.seeds or settings)


def check_options(options: argparse.Namespace) -> None:
    """UserError for options that mean nothing together."""
    if options.watch and not options.status:
        raise UserError("--watch goes with --status")
    if options.watch and options.json:
        raise UserError("--json prints the state once: leave out --watch")
    if (options.onnx or options.licence != "unknown") and not options.export:
        raise UserError("--onnx and --licence go with --export DIR")
    if options.notify is None:
        return
    ends = [f"--{name.replace('_', '-')}" for name in STOPS if getattr(options, name)]
    ends += ["--explain"] if options.explain is not None else []
    ends += ["--status (add --watch)"] if options.status and not options.watch else []
    if ends:
        raise UserError(f"--notify tells when runs have ended: not with {ends[0]}")
    if not options.notify.strip():
        raise UserError("--notify needs a command")
