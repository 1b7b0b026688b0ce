"""``run_all.py report``: writes tables, figures and the page from the finished runs."""

import argparse
import json

from benchmarks.commands.request import Outcome, Request, add_json, add_request, read_request

EXAMPLE = "report --profile miniature"


def add_options(parser: argparse.ArgumentParser) -> None:
    add_request(parser)
    add_json(parser)


def act(options: argparse.Namespace) -> Outcome:
    from benchmarks.report.report_folder import finished_text

    request = read_request(options)
    text = finished_text(request.target, request.folder / "runs")
    if not options.json:
        print(text)
    write(request)
    return Outcome()


def write(request: Request) -> None:
    """Writes the report that the request has (benchmarks.report.report_folder), and prints the requested benchmarks."""
    from benchmarks.report.write import write_report

    target, as_json = request.target, getattr(request.options, "json", False)
    target.save_request()
    reference = request.options.reference
    written = write_report(target.profile, target.cells, target.folder, reference, request.folder / "runs")
    for name in request.cells:
        text = written.texts[name]
        print(json.dumps({"benchmark": name, "report": text}) if as_json else f"\n{text}")
    if not as_json:
        print(f"{written.headline}.\nwritten to {target.folder.resolve() / 'index.html'}")
