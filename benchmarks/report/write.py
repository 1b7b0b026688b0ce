"""What came out: tables, figures, verdicts and the page, from the run folders as they are, at any time."""

import dataclasses
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
from benchmarks.report.curves import curves_frame, curves_pdf, mean_curves
from benchmarks.report.escaping import csv_text
from benchmarks.report.figures import Layouts, draw
from benchmarks.report.markdown import claims_markdown, section_markdown
from benchmarks.report.page import write_page
from benchmarks.report.schema import schema
from benchmarks.report.section import Report, Section
from benchmarks.report.spending import COUNTED, SECONDS, spending, spending_markdown
from benchmarks.report.style import Look, looks
from benchmarks.report.tables import latex, notes, summary
from benchmarks.report.time_to_accuracy import beside_others, spent_curves
from benchmarks.statistics.comparison import differences, pairwise
from benchmarks.statistics.controls import controls
from benchmarks.statistics.judging import Part, Verdict, epoch_that_decides, verdicts
from benchmarks.statistics.ranking import ranking_lines
from benchmarks.statistics.reference import choose_reference, with_reference
from benchmarks.tables.benchmark import BENCHMARKS, HELD_OUT, Benchmark, with_chosen
from benchmarks.tables.cell import Cell
from sskd.config.execution import Execution
from sskd.errors import UserError
from sskd.runs.files import plain_os_errors, write_atomically, write_json

TIMED = ("comparison", "equal_time")  # accuracy against all seconds spent
WITH_REPRODUCTIONS = ("table2", "table3", "table4", "table5")


def write_report(
    profile: Profile, cells: Mapping[str, list[Cell]], folder: Path, reference: str = "", runs: Path | None = None
) -> dict[str, str]:
    """Writes for every benchmark <id>.md, .csv, .tex, .png and .pdf, and into the same ``folder`` claims.md, claims.csv
    and parts.csv (verdicts and their comparisons), runs.csv (the frame), spent.csv (see spent.spent_curves), .md, .png
    and .pdf, curves.csv and curves.pdf (see curves.mean_curves), card.json and card.md (what the numbers were measured
    with), schema.json (what all files hold) and index.html. Returns each benchmark's Markdown.

    reference: the row that all others are compared with, as reference.choose_reference takes it. runs: where the run
    folders are, if not in ``folder``."""
    runs = runs or folder / "runs"
    with plain_os_errors("write", folder):
        folder.mkdir(parents=True, exist_ok=True)
    frame, cards = compared(results_frame(cells, runs), profile)
    row = choose_reference(cells, reference)
    shown = looks(map(str, frame["row"][frame["benchmark"] != ""]))
    sections, texts = [], {}
    for name, group in cells.items():
        benchmark = with_chosen(with_reference(BENCHMARKS[name], group, row), frame)
        layouts: Layouts = {}
        if benchmark.figure == "embedding":
            frame = add_silhouettes(frame, cells, name, runs, profile.execution)
            layouts = _layouts(group, frame[frame["benchmark"] == name], runs, profile.execution)
        if benchmark.probes:
            frame = add_probes(frame, probes_of({name: group}, profile), name, runs)
        section = _section(benchmark, frame[frame["benchmark"] == name], folder, layouts, shown)
        section.notes.extend(card_notes(cards[name], profile.for_benchmark(name).waivers))
        sections.append(section)
        texts[name] = section_markdown(section)
        _write(folder / f"{name}.md", texts[name])
        _write(folder / f"{name}.csv", csv_text(section.table))
        _write(folder / f"{name}.tex", latex(section.table, benchmark, section.notes))
    timed = frame[frame["benchmark"].isin(TIMED) | (frame["benchmark"] == "")]
    beside = beside_others(frame)
    unit = SECONDS if beside.isdisjoint(timed["id"]) else COUNTED
    of_timed = [spec for spec in specs_of(cells).values() if spec.id in set(timed["id"])]
    spent = spent_curves(timed, runs, work=known_work(of_timed, profile) if unit == COUNTED else None)
    students = dict.fromkeys(frame["id"][frame["benchmark"] != ""])
    curves = {run: curve for run in students if len(curve := read_curve(runs / run / "metrics.jsonl"))}
    means = {section.benchmark.id: mean_curves(section.frame, curves) for section in sections}
    priced = frame.assign(price=frame["id"].map(run_prices(specs_of(cells).values(), runs, profile)))
    report = Report(
        profile,
        frame,
        shown,
        sections,
        verdicts(priced),
        verdicts(priced, "best"),
        controls(frame, epoch_that_decides(frame)),
        spending(spent, folder, shown, unit),
        cards,
        curves,
        means,
        beside,
    )
    _write(folder / "claims.md", claims_markdown(report.verdicts, report.verdicts_best, report.controls))
    _write(folder / "claims.csv", _claims_csv([*report.verdicts, *report.verdicts_best]))
    _write(folder / "parts.csv", _parts_csv([*report.verdicts, *report.verdicts_best]))
    _write(folder / "spent.csv", csv_text(spent.curves))
    if len(spent.curves):
        _write(folder / "spent.md", spending_markdown(report.spending))
    _write(folder / "card.md", card_markdown(cards, profile))
    write_json(folder / "card.json", card_json(cards, profile))
    write_json(folder / "schema.json", schema())
    _write(folder / "runs.csv", csv_text(frame))
    _write(folder / "curves.csv", csv_text(curves_frame(means)))
    for note in curves_pdf(sections, means, folder / "curves.pdf", shown):
        sections[0].notes.append(note)
    write_page(report, cells, folder, runs)
    return texts


def _section(
    benchmark: Benchmark, frame: pd.DataFrame, folder: Path, layouts: Layouts, shown: Mapping[str, Look]
) -> Section:
    pairs = set(frame["pair"])
    table = summary(frame, benchmark)
    figure, trouble = attempt(folder / benchmark.id, lambda: draw(frame, _drawn(benchmark), folder, layouts, shown))
    return Section(
        benchmark,
        frame,
        table,
        {measure.label: differences(frame, benchmark, measure) for measure in benchmark.measures},
        {
            m.label: pairwise(frame, benchmark, m)
            for m in benchmark.measures
            if len(set(frame["row"]) - {"Teacher"}) > 2
        },
        ranking_lines(frame, benchmark.measures[0].name, benchmark.measures[0].larger_is_better),
        [*notes(frame, benchmark, table), *trouble],
        reproductions(pairs) if benchmark.id in WITH_REPRODUCTIONS else reproductions(set()),
        figure,
    )


def _drawn(benchmark: Benchmark) -> Benchmark:
    """What its figure shows: accuracies on test images alone."""
    return dataclasses.replace(benchmark, measures=tuple(m for m in benchmark.measures if m != HELD_OUT))


def _layouts(group: list[Cell], frame: pd.DataFrame, runs: Path, execution: Execution) -> Layouts:
    """What an "embedding" figure draws: of every row the first seed that is finished and has its weights."""
    finished = set(frame["id"][(frame["state"] == "finished") & (frame["why"] == "")])
    layouts = {}
    for cell in group:
        if cell.spec and cell.row not in layouts and cell.spec.id in finished:
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
