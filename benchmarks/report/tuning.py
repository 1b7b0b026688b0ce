"""The report's part on tuned methods: a table, verdicts, and the curve of accuracy by budget."""

from pathlib import Path
from typing import NamedTuple

import pandas as pd
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from benchmarks.report.canvas import attempt, dashes, legend, panels
from benchmarks.report.escaping import csv_text, markdown_text
from benchmarks.report.style import styles_of
from benchmarks.statistics.comparison import RULE, Rule
from benchmarks.statistics.judging import ComparisonResult
from benchmarks.statistics.verdict import CONTRADICTED, SUPPORTED
from benchmarks.statistics.wording import effect_text
from benchmarks.tuning.comparing import (
    Searches,
    curves,
    finished,
    per_study,
    reference_of,
    short_trials,
    summary,
    verdicts,
)
from benchmarks.tuning.studies import FOLDER, StudyFile, read_studies
from benchmarks.tuning.trials import BENCHMARK
from sskd.formatting import duration, markdown_table, plural
from sskd.runs.files import write_atomically

CSV = f"{FOLDER}/{BENCHMARK}/tuning.csv"  # in the report's folder
RULE_TEXT = (
    "A study fixes the seeds of split, head, search and student, equal for all methods; n is the number of studies. "
    "Gain: tuned minus published, paired within a study. Between methods: Welch's interval, 95 % over all looks at 3 "
    "to 10 studies, decided after Holm's correction. No test accuracy of a trial enters a choice or is shown."
)


class TuningReport(NamedTuple):
    """Contents of tuning.md and of the page's section. setup: description of the searches. check: description of the
    rank correlation of short and full trials. table: from comparing.summary. lines: comparisons with the reference.
    chosen: from chosen_lines. curves: from comparing.curves. figure: PNG."""

    setup: str
    table: pd.DataFrame
    lines: list[str]
    chosen: list[str]
    curves: pd.DataFrame
    check: str
    figure: Path | None
    notes: list[str]


def tuning_report(results: Path, rule: Rule = RULE, reference: str = "") -> TuningReport | None:
    """Reads a profile's studies. Writes tuning.csv next to them, and tuning.png and .pdf into ``results``. Returns None
    if there are no studies. Raises UserError for a damaged file."""
    studies = read_studies(results)
    if not studies:
        return None
    searches = finished(studies)
    known = sum(map(len, searches.values()))
    under_way = (
        f" {len(studies) - known} of {plural(len(studies), 'search')} not finished." if known < len(studies) else ""
    )
    lines: list[str] = []
    if searches:
        parts, refused = verdicts(searches, reference_of(searches, reference), rule)
        lines = [*map(part_text, parts), *refused]
    by_budget = curves(searches)
    figure, trouble = attempt(results / "tuning", lambda: _draw(by_budget))
    write_atomically(results / CSV, csv_text(per_study(searches)).encode())
    setup = setup_text(studies) + under_way
    chosen, check = chosen_lines(searches), short_trials(studies)
    return TuningReport(setup, summary(searches, rule), lines, chosen, by_budget, check, figure, trouble)


def setup_text(studies: list[StudyFile]) -> str:
    """Describes how the settings were searched, in one sentence per kind of search."""
    kinds: dict[tuple[int, int, int, float], dict[str, None]] = {}
    for s in studies:
        kinds.setdefault((s.budget, s.epochs, s.full_epochs, s.holdout), {})[s.label] = None
    return " ".join(
        f"{', '.join(labels)}: {plural(budget, 'trial')} of {plural(epochs, 'epoch')} in each study, scored on "
        f"{100 * holdout:g} % of the training images; then the chosen and the published setting for "
        f"{plural(full, 'epoch')} on all of them."
        for (budget, epochs, full, holdout), labels in kinds.items()
    )


def optimism_text(points: float) -> str:
    """Formats the optimism; "" if it is unknown, because trials are shorter than final runs."""
    return "" if pd.isna(points) else f"{points:+.2f}"


def chosen_lines(searches: Searches) -> list[str]:
    """Describes what each study has chosen: "AT, study 0: trial 4 (learning_rate 0.127, weight 31.3)"."""
    return [
        f"{label}, study {study.study}: trial {study.best.number} "
        f"({', '.join(f'{name} {value}' for name, value in study.best.settings.items())})"
        for label, studies in searches.items()
        for study in studies
    ]


def part_text(part: ComparisonResult) -> str:
    """Formats "SSKD - KD: +1.20 [0.31, 2.09], 5 studies: SSKD is ahead"."""
    first, _, second = part.name.partition(" - ")
    says = {SUPPORTED: f"{first} is ahead", CONTRADICTED: f"{second} is ahead"}.get(part.verdict, part.verdict)
    studies = "1 study" if part.seeds == 1 else f"{part.seeds} studies"
    return f"{part.name}: {effect_text(part.effect, part.lower, part.upper, 2)}, {studies}: {says}"


def tuning_markdown(report: TuningReport | None) -> str:
    """Returns the content of tuning.md."""
    if report is None or report.table.empty:
        return "## Tuned under an equal budget\n\n" + (f"{report.setup}\n" if report else "No study was begun.\n")
    head = ["method", "studies", "trials", "published", "tuned", "gain", "optimism", "a search", "a final run"]
    rows = []
    for row in report.table.to_dict("records"):
        cells = [row["row"], str(row["studies"]), row["budget"], f"{row['published']:.2f}", f"{row['tuned']:.2f}"]
        cells += [effect_text(row["gain"], row["lower"], row["upper"], 2), optimism_text(row["optimism"])]
        cells += [duration(row["search_seconds"]), duration(row["final_seconds"])]
        rows.append([*map(markdown_text, cells)])
    parts = [f"## Tuned under an equal budget\n\n{markdown_text(report.setup)} {RULE_TEXT}\n"]
    parts += [markdown_table(head, rows), *(f"- {markdown_text(line)}" for line in report.lines)]
    parts += ["\nChosen settings:\n", *(f"- {markdown_text(line)}" for line in report.chosen)]
    curves = report.curves.pivot(index="row", columns="trials", values="top1")
    best = [
        [markdown_text(label), *("" if pd.isna(value) else f"{value:.2f}" for value in curves.loc[label])]
        for label in dict.fromkeys(report.curves["row"])
    ]
    parts += ["\nExpected validation accuracy (%) of the best trial, by the number of trials:\n"]
    parts += [markdown_table(["method", *curves.columns], best)]
    return "\n".join([*parts, *(f"{note}\n" for note in (report.check, *report.notes) if note)])


def _draw(by_budget: pd.DataFrame) -> Figure | None:
    """Draws the expected validation accuracy of the best trial by the number of trials, a line per method."""
    if by_budget.empty:
        return None
    rows = list(dict.fromkeys(map(str, by_budget["row"])))
    styles = styles_of(rows)
    figure, (axis,) = panels(1, 1, (4.4, 2.9))
    for row, curve in by_budget.groupby("row", sort=False):
        style = styles[str(row)]
        axis.plot(
            curve["trials"], curve["top1"], color=style.hex, marker=style.marker, linestyle=dashes(style), markersize=5
        )
    axis.set(xlabel="trials", ylabel="validation top-1 (%)", title="Expected best trial by number of trials")
    axis.xaxis.set_major_locator(MaxNLocator(integer=True))
    axis.grid(axis="y", color="0.9", linewidth=0.7)
    return legend(figure, rows, styles)
