"""Writes the report: tables, figures, verdicts and the page, from the run folders as they are, at any time."""

from collections.abc import Mapping
from pathlib import Path

import pandas as pd

from benchmarks.analysis.comparability import card_json, compared
from benchmarks.analysis.embedding import add_silhouettes, features_of
from benchmarks.analysis.frame import read_curve, results_frame, specs_of
from benchmarks.analysis.probes import add_probes, probes_of
from benchmarks.analysis.published import reproductions
from benchmarks.planning.cost import known_work, run_prices
from benchmarks.profiles.profile import Profile
from benchmarks.report.canvas import attempt
from benchmarks.report.card import card_markdown, card_notes
from benchmarks.report.curves import curves_frame, mean_curves
from benchmarks.report.escaping import csv_text
from benchmarks.report.figures import Layouts, draw
from benchmarks.report.markdown import claims_markdown, section_markdown
from benchmarks.report.page import write_page
from benchmarks.report.schema import schema
from benchmarks.report.section import Report, Section
from benchmarks.report.spending import COUNTED, SECONDS, beside_others, spending, spending_markdown
from benchmarks.report.style import Look, looks
from benchmarks.report.tables import latex, notes, summary
from benchmarks.statistics.comparison import Rule, deciding_measure, differences, pairwise, rows_of, rule_of
from benchmarks.statistics.controls import controls
from benchmarks.statistics.judging import Part, Verdict, epoch_that_decides, verdicts
from benchmarks.statistics.ranking import ranking_lines
from benchmarks.tables.benchmark import BENCHMARKS, Benchmark, with_chosen
from benchmarks.tables.cell import Cell
from benchmarks.tables.reference import choose_reference, with_reference
from sskd.config.execution import Execution
from sskd.errors import UserError
from sskd.runs.files import plain_os_errors, write_atomically, write_json


def write_report(
    profile: Profile, cells: Mapping[str, list[Cell]], folder: Path, reference: str = "", runs: Path | None = None
) -> dict[str, str]:
    """Writes for every benchmark <id>.md, .csv, .tex, .png and .pdf, and into the same ``folder`` claims.md, claims.csv
    and parts.csv (verdicts and their comparisons), runs.csv (the frame), spent.csv (see spending.spent_curves), .md,
    .png and .pdf, curves.csv (see curves.mean_curves), card.json and card.md (what the numbers were measured with),
    schema.json (what all files hold) and index.html. Returns each benchmark's Markdown.

    reference: the row that all others are compared with, as reference.choose_reference takes it. runs: where the run
    folders are, if not in ``folder``."""
    runs = runs or folder / "runs"
    with plain_os_errors("write", folder):
        folder.mkdir(parents=True, exist_ok=True)
    report = _report(profile, cells, folder, reference, runs)
    files = {"claims.md": claims_markdown(report.verdicts, report.verdicts_best, report.controls)}
    both = [*report.verdicts, *report.verdicts_best]
    files |= {"claims.csv": _claims_csv(both), "parts.csv": _parts_csv(both)}
    files["spent.csv"] = csv_text(report.spending.curves)
    if len(report.spending.curves):
        files["spent.md"] = spending_markdown(report.spending)
    files["card.md"] = card_markdown(report.cards, profile)
    files |= {"runs.csv": csv_text(report.frame), "curves.csv": csv_text(curves_frame(report.means))}
    texts = {section.benchmark.id: section_markdown(section) for section in report.sections}
    for section in report.sections:
        name, table = section.benchmark.id, section.table
        files |= {f"{name}.md": texts[name], f"{name}.csv": csv_text(table)}
        files[f"{name}.tex"] = latex(table, section.benchmark, section.notes)
    for name, text in files.items():
        _write(folder / name, text)
    write_json(folder / "card.json", card_json(report.cards, profile))
    write_json(folder / "schema.json", schema())
    write_page(report, cells, folder, runs)
    return texts


def _report(profile: Profile, cells: Mapping[str, list[Cell]], folder: Path, reference: str, runs: Path) -> Report:
    """Reads the runs and draws the figures into ``folder``."""
    frame, cards = compared(results_frame(cells, runs), profile)
    specs, row, rule = specs_of(cells), choose_reference(cells, reference), rule_of(profile)
    shown = looks(map(str, frame["row"][frame["benchmark"] != ""]))
    sections = []
    for name, group in cells.items():
        benchmark = with_chosen(with_reference(BENCHMARKS[name], group, row), frame)
        layouts: Layouts = {}
        if benchmark.figure == "embedding":
            frame = add_silhouettes(frame, cells, name, runs, profile.execution)
            layouts = _layouts(group, frame[frame["benchmark"] == name], runs, profile.execution)
        if benchmark.probes:
            frame = add_probes(frame, probes_of({name: group}, profile), name, runs)
        section = _section(benchmark, frame[frame["benchmark"] == name], folder, layouts, shown, rule)
        section.notes.extend(card_notes(cards[name], profile.for_benchmark(name).waivers))
        sections.append(section)
    own = [name for name in cells if BENCHMARKS[name].own_methods]
    timed = frame[frame["benchmark"].isin(["", *own])]
    beside = beside_others(frame)
    unit = SECONDS if beside.isdisjoint(timed["id"]) else COUNTED
    of_timed = [spec for spec in specs.values() if spec.id in set(timed["id"])]
    work = known_work(of_timed, profile) if unit == COUNTED else {}
    students = dict.fromkeys(frame["id"][frame["benchmark"] != ""])
    curves = {run: curve for run in students if len(curve := read_curve(runs / run / "metrics.jsonl"))}
    priced = frame.assign(price=frame["id"].map(run_prices(specs.values(), runs, profile)))
    return Report(
        profile,
        frame,
        shown,
        sections,
        verdicts(priced, rule=rule),
        verdicts(priced, "best", rule),
        controls(frame, epoch_that_decides(frame), rule),
        spending(timed, runs, work, unit, folder, shown),
        cards,
        curves,
        {section.benchmark.id: mean_curves(section.frame, curves) for section in sections},
        beside,
    )


def _section(
    benchmark: Benchmark, frame: pd.DataFrame, folder: Path, layouts: Layouts, shown: Mapping[str, Look], rule: Rule
) -> Section:
    table, several = summary(frame, benchmark), len(rows_of(frame)) > 2
    decides = deciding_measure(benchmark, epoch_that_decides(frame))
    figure, trouble = attempt(folder / benchmark.id, lambda: draw(frame, benchmark, shown, layouts))
    return Section(
        benchmark,
        frame,
        table,
        {measure.label: differences(frame, benchmark, measure, rule) for measure in benchmark.measures},
        {measure.label: pairwise(frame, benchmark, measure, rule) for measure in benchmark.measures if several},
        ranking_lines(frame, decides.name, benchmark.reference, decides.larger_is_better),
        [*notes(frame, benchmark, table), *trouble],
        reproductions(set(frame["pair"]) if benchmark.published else set()),
        figure,
    )


def _layouts(group: list[Cell], frame: pd.DataFrame, runs: Path, execution: Execution) -> Layouts:
    """Returns what an "embedding" figure draws: of every row the first seed that is finished and has its weights."""
    finished = set(frame["id"][(frame["state"] == "finished") & (frame["why"] == "")])
    layouts = {}
    for cell in group:
        if cell.row not in layouts and cell.spec.id in finished:
            try:
                arrays = features_of(cell.spec, runs, execution, layout=True)
            except UserError:  # the table says why
                continue
            layouts[cell.row] = (arrays["layout"], arrays["labels"], float(arrays["silhouette"]))
    return layouts


def _claims_csv(all_verdicts: list[Verdict]) -> str:
    rows = []
    for verdict in all_verdicts:
        row = verdict._asdict() | {"runs": " ".join(verdict.runs), "need": verdict.need.seeds if verdict.need else None}
        row["chance"] = verdict.need.chance if verdict.need else None
        row["parts"], row["decided"] = len(verdict.parts), len(verdict.decided)
        rows.append(row | {"text": verdict.text})
    return csv_text(pd.DataFrame(rows))


def _parts_csv(all_verdicts: list[Verdict]) -> str:
    names = ["claim", "epoch", *(name for name in Part._fields if name != "cells")]
    rows = [
        {"claim": verdict.id, "epoch": verdict.epoch} | part._asdict()
        for verdict in all_verdicts
        for part in verdict.parts
    ]
    return csv_text(pd.DataFrame(rows, columns=names))


def _write(path: Path, text: str) -> None:
    write_atomically(path, lambda file: file.write(text.encode()))
