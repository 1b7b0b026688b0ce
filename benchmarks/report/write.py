"""Writes the report from the run folders: tables, figures, verdicts and the page. Works at any time, also while runs
train."""

from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

import pandas as pd

from benchmarks.analysis.comparability import comparability_json, exclude_incomparable
from benchmarks.analysis.embedding import Layouts, add_features
from benchmarks.analysis.frame import curve_of, read_epochs, results_frame, specs_of
from benchmarks.analysis.probes import add_probes, probes_of
from benchmarks.analysis.published import reproductions
from benchmarks.planning.cost import expected_seconds, known_work
from benchmarks.profiles.profile import Profile
from benchmarks.report.canvas import attempt
from benchmarks.report.comparability import comparability_markdown, comparability_notes
from benchmarks.report.curves import mean_curves
from benchmarks.report.escaping import csv_text
from benchmarks.report.figures import draw
from benchmarks.report.markdown import claims_markdown, section_markdown
from benchmarks.report.page import write_page
from benchmarks.report.schema import schema
from benchmarks.report.section import Report, Section
from benchmarks.report.style import Style, styles_of
from benchmarks.report.tables import latex, notes, summary
from benchmarks.report.time_to_accuracy import (
    COUNTED,
    SECONDS,
    make_time_to_accuracy,
    runs_sharing_a_machine,
    time_to_accuracy_markdown,
)
from benchmarks.report.tuning import tuning_markdown, tuning_report
from benchmarks.statistics.comparison import (
    Rule,
    deciding_measure,
    differences,
    pairwise,
    relative_gains,
    rows_of,
    rule_of,
)
from benchmarks.statistics.controls import controls
from benchmarks.statistics.judging import ComparisonResult, Verdict, epoch_that_decides, verdicts
from benchmarks.statistics.ranking import ranking_lines
from benchmarks.tables.benchmark import BENCHMARKS, Benchmark, with_measured
from benchmarks.tables.cell import Cell
from benchmarks.tables.reference import choose_reference, with_reference
from sskd.runs.files import plain_os_errors, write_atomically, write_json


class Written(NamedTuple):
    """Texts of a report for the terminal."""

    texts: dict[str, str]  # each benchmark's Markdown
    headline: str  # the page's


def write_report(
    profile: Profile, cells: Mapping[str, list[Cell]], folder: Path, reference: str = "", runs: Path | None = None
) -> Written:
    """Writes the report's files into ``folder``.

    Per benchmark: <id>.md, .csv, .tex, .png and .pdf. For all: index.html; claims.md, claims.csv, parts.csv (verdicts
    and their comparisons); runs.csv (the frame); spent.csv, .md, .png, .pdf (time_to_accuracy.py); curves.csv
    (curves.py); card.json and card.md (comparability.py); schema.json (the JSON schema of all files). If methods were
    tuned: tuning.md, .png and .pdf, and tuning.csv next to the studies (tuning.py).

    reference: the row that all others are compared with (see reference.choose_reference). runs: the folder of all run
    folders (default: ``folder``/runs).
    """
    runs = runs or folder / "runs"
    with plain_os_errors("write", folder):
        folder.mkdir(parents=True, exist_ok=True)
    report = _report(profile, cells, folder, reference, runs)
    files = {"claims.md": claims_markdown(report.verdicts, report.verdicts_best, report.controls)}
    both = [*report.verdicts, *report.verdicts_best]
    files |= {"claims.csv": _claims_csv(both), "parts.csv": _parts_csv(both)}
    files["spent.csv"] = csv_text(report.time_to_accuracy.curves)
    if len(report.time_to_accuracy.curves):
        files["spent.md"] = time_to_accuracy_markdown(report.time_to_accuracy)
    if report.tuning:
        files["tuning.md"] = tuning_markdown(report.tuning)
    files["card.md"] = comparability_markdown(report.comparability, profile)
    files |= {"runs.csv": csv_text(report.frame), "curves.csv": csv_text(report.means)}
    texts = {section.benchmark.id: section_markdown(section) for section in report.sections}
    for section in report.sections:
        name, table = section.benchmark.id, section.table
        files |= {f"{name}.md": texts[name], f"{name}.csv": csv_text(table)}
        files[f"{name}.tex"] = latex(table, section.benchmark, section.notes)
    for name, text in files.items():
        _write(folder / name, text)
    write_json(folder / "card.json", comparability_json(report.comparability, profile))
    write_json(folder / "schema.json", schema())
    return Written(texts, write_page(report, cells, folder, runs))


def _report(profile: Profile, cells: Mapping[str, list[Cell]], folder: Path, reference: str, runs: Path) -> Report:
    """Reads the runs and draws the figures into ``folder``."""
    frame, comparability = exclude_incomparable(results_frame(cells, runs), profile)
    specs, row, rule = specs_of(cells), choose_reference(cells, reference), rule_of(profile)
    styles = styles_of(map(str, frame["row"][frame["benchmark"] != ""]))
    sections = []
    for name, group in cells.items():
        if not group:
            continue
        benchmark = with_measured(with_reference(BENCHMARKS[name], group, row), frame)
        layouts = Layouts()
        if benchmark.figure == "embedding":
            frame, layouts = add_features(frame, group, name, runs, profile.execution)
        if benchmark.probes:
            frame = add_probes(frame, probes_of({name: group}, profile), name, runs)
        section = _section(benchmark, frame[frame["benchmark"] == name], folder, layouts, styles, rule)
        section.notes.extend(comparability_notes(comparability[name], profile.for_benchmark(name).waivers))
        sections.append(section)
    own = [name for name in cells if BENCHMARKS[name].own_methods]
    timed = frame[frame["benchmark"].isin(["", *own])]
    shared_machine = runs_sharing_a_machine(frame)
    unit = SECONDS if shared_machine.isdisjoint(timed["id"]) else COUNTED
    work = known_work([specs[run] for run in dict.fromkeys(timed["id"])], profile) if unit == COUNTED else {}
    students = dict.fromkeys(frame["id"][frame["benchmark"] != ""])
    epochs = {run: read_epochs(runs / run / "metrics.jsonl") for run in students}
    curves = {run: curve_of(found) for run, found in epochs.items() if len(found)}
    expected = frame.assign(expected_seconds=frame["id"].map(expected_seconds(specs.values(), runs, profile)))
    return Report(
        profile,
        frame,
        styles,
        sections,
        verdicts(expected, rule=rule),
        verdicts(expected, "best", rule),
        controls(frame, epoch_that_decides(frame), rule),
        make_time_to_accuracy(timed, epochs, work, unit, folder, styles),
        comparability,
        curves,
        mean_curves(frame, curves),
        shared_machine,
        tuning_report(folder, rule, row) if folder.resolve() == runs.resolve().parent else None,
    )


def _section(
    benchmark: Benchmark, frame: pd.DataFrame, folder: Path, layouts: Layouts, styles: Mapping[str, Style], rule: Rule
) -> Section:
    table = summary(frame, benchmark)
    matrix = len(rows_of(frame)) > 2 and (benchmark.averages or frame["column"].nunique() == 1)
    decides = deciding_measure(benchmark, epoch_that_decides(frame))
    figure, trouble = attempt(folder / benchmark.id, lambda: draw(frame, benchmark, styles, layouts))
    gains = relative_gains(frame, decides, rule) if matrix and decides.name.endswith("_top1") else {}
    lines = notes(frame, benchmark, table)
    if gains:
        ratios = ", ".join(f"{row} {100 * gain:+.0f} %" for row, gain in gains.items())
        lines.append(f"Gain over KD, relative to KD's gain over the student alone (ratio of sums): {ratios}.")
    return Section(
        benchmark,
        frame,
        table,
        {measure.label: differences(frame, benchmark, measure, rule) for measure in benchmark.measures},
        {measure.label: pairwise(frame, benchmark, measure, rule) for measure in benchmark.measures if matrix},
        ranking_lines(frame, decides.name, benchmark.reference, decides.larger_is_better),
        [*lines, *trouble],
        reproductions(set(frame["pair"]) if benchmark.published else set()),
        figure,
    )


def _claims_csv(all_verdicts: list[Verdict]) -> str:
    rows = [
        verdict._asdict()
        | {"need": verdict.need and verdict.need.seeds, "chance": verdict.need and verdict.need.chance}
        | {"runs": " ".join(verdict.runs), "comparisons": len(verdict.comparisons), "decided": len(verdict.decided)}
        | {"text": verdict.text}
        for verdict in all_verdicts
    ]
    return csv_text(pd.DataFrame(rows))


def _parts_csv(all_verdicts: list[Verdict]) -> str:
    names = ["claim", "epoch", *(name for name in ComparisonResult._fields if name != "cells")]
    rows = [
        {"claim": verdict.id, "epoch": verdict.epoch} | part._asdict()
        for verdict in all_verdicts
        for part in verdict.comparisons
    ]
    return csv_text(pd.DataFrame(rows, columns=names))


def _write(path: Path, text: str) -> None:
    write_atomically(path, text.encode())
