"""``run_all.py export``: writes every finished student of a request as a self-contained folder."""

import argparse

from benchmarks.commands.request import Outcome, add_request, read_request
from sskd.arguments import file_path
from sskd.errors import UserError

EXAMPLE = "export home --profile miniature --licence mit --onnx"


def add_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("to", type=file_path, metavar="DIR", help="output folder; each student gets a folder in it")
    parser.add_argument("--onnx", action="store_true", help="also export and check an ONNX file (needs the extra onnx)")
    parser.add_argument(
        "--licence",
        "--license",
        default="unknown",
        help="licence of the weights, with its name on the hub: mit, ... (default: unknown)",
    )
    add_request(parser)


def act(options: argparse.Namespace) -> Outcome:
    """Exports the students. Raises UserError if no finished student has its weights here."""
    from sskd.export.folder import export_run
    from sskd.runs.run_folder import RunFolder

    request = read_request(options)
    runs = request.folder / "runs"
    students = [RunFolder(runs, spec) for spec in request.plan.runs if spec.role == "student"]
    finished = [folder for folder in students if folder.is_finished()]
    here = [folder for folder in finished if not folder.lost_weights()]
    for folder in finished:
        if folder in here:
            print(export_run(folder.path, options.to / folder.path.name, licence=options.licence, onnx=options.onnx))
        else:
            print(f"{folder.path.name}: finished, but its weights are missing")
    if not here:
        raise UserError(
            f"found no student to export: {len(finished)} of {len(students)} requested students are finished in "
            f"{runs}, and none has its weights there; train them first with run_all.py run"
        )
    return Outcome()
