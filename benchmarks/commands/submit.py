"""``run_all.py submit``: writes a submission of finished runs that others can verify."""

import argparse
from pathlib import Path

from benchmarks.commands.request import Outcome, add_plugins, load_plugins
from sskd.arguments import file_path
from sskd.errors import UserError

EXAMPLE = "submit results/miniature/runs/student-resnet8-kd-cifar100-s0-*"


def add_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("runs", nargs="+", type=file_path, metavar="RUN", help="folder of a finished run")
    parser.add_argument(
        "--seed",
        type=int,
        metavar="N",
        help="seed given by the verifier: adds the states of the drawn epochs to the submission",
    )
    add_segments(parser)
    parser.add_argument(
        "--results", type=file_path, default=Path("results"), help="submissions are written to DIR/submissions"
    )
    add_plugins(parser)


def add_segments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--segments", type=int, metavar="N", help="number of epochs that the seed draws (default: 3)")


def segments_asked(options: argparse.Namespace) -> int:
    from benchmarks.records.submission import DRAWN

    count = DRAWN if options.segments is None else int(options.segments)
    if count < 0:
        raise UserError(f"--segments {count}: expected 0 or more")
    return count


def act(options: argparse.Namespace) -> Outcome:
    from benchmarks.records.record import MANIFEST, read_manifest
    from benchmarks.records.submission import submit

    load_plugins(options)
    for run in options.runs:
        made = submit(run, options.results / "submissions", options.seed, segments_asked(options))
        print(f"{made}: {sum(path.stat().st_size for path in made.rglob('*') if path.is_file()) / 2**20:.1f} MB")
        print(f"commitment (sha256 of its {MANIFEST}): {read_manifest(made).commitment}")
    return Outcome()
