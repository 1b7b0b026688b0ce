"""What came out: tables, figures, verdicts and the page, from the run folders as they are, at any time."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import pandas as pd

from benchmarks.base import BENCHMARKS, Benchmark, Cell, with_chosen
from benchmarks.controls import control_lines
from benchmarks.embedding import add_silhouettes, features_of
from benchmarks.figures import Drawn, Layouts, draw
from benchmarks.frame import results_frame
from benchmarks.judging import EPOCHS, Verdict, epoch_that_decides, verdicts
from benchmarks.look import Look, looks
from benchmarks.page import write_page
from benchmarks.profiles import Profile
from benchmarks.published import reproductions
from benchmarks.ranking import ranking_lines
from benchmarks.reference import choose_reference, with_reference
from benchmarks.spent import spent_curves
from benchmarks.statistics import AVERAGE, differences, is_sure, pairwise
from benchmarks.summary import latex, markdown, notes, number, summary
from sskd.config import Execution
from sskd.errors import UserError
from sskd.folder import plain_os_errors, write_atomically

TIMED = ("comparison", "equal_time")  # accuracy against all seconds spent
WITH_REPRODUCTIONS = ("table2", "table3", "table4", "table5")


class Section(NamedTuple):
    """A benchmark's part of the report."""

    benchmark: Benchmark
    frame: pd.DataFrame  # its rows of the report's frame
    table: pd.DataFrame  # see summary.summary
    differences: dict[str, pd.DataFrame]  # by measure's label, see statistics.differences
    pairs: dict[str, pd.DataFrame]  # by measure's label, see statistics.pairwise; of three rows or more
    ranking: list[str]  # of its first measure, see ranking.ranking_lines
    notes: list[str]
    reproductions: pd.DataFrame
    figure: Drawn | None


class Report(NamedTuple):
    """Everything that the page shows."""

    profile: Profile
    frame: pd.DataFrame
    shown: dict[str, Look]  # by row
    sections: list[Section]
    verdicts: list[Verdict]  # by the epoch that decides: chosen on held-out images, else the last
    verdicts_best: list[Verdict]  # by the best on test images, as the paper
    controls: list[str]  # see controls.control_lines


def write_report(
    profile: Profile, cells: Mapping[str, list[Cell]], folder: Path, reference: str = "", runs: Path | None = None
) -> dict[str, str]:
    """Writes for every benchmark <id>.md, .csv, .tex, .png and .pdf, and claims.md, claims.csv, runs.csv (the frame),
    spent.csv (see spent.spent_curves) and index.html into ``folder``. Returns each benchmark's Markdown.

    reference: the row that all others are compared with, as reference.choose_reference takes it. runs: where the run
    folders are, if not in ``folder``."""
    runs = runs or folder / "runs"
    with plain_os_errors("write", folder):
        folder.mkdir(parents=True, exist_ok=True)
    frame = results_frame(cells, runs)
    row = choose_reference(cells, reference)
    shown = looks(map(str, frame["row"][frame["benchmark"] != ""]))
    sections, texts = [], {}
    for name, group in cells.items():
        benchmark = with_chosen(with_reference(BENCHMARKS[name], group, row), frame)
        layouts: Layouts = {}
        if benchmark.figure == "embedding":
            frame = add_silhouettes(frame, cells, name, runs, profile.execution)
            layouts = _layouts(group, frame[frame["benchmark"] == name], runs, profile.execution)
        section = _section(benchmark, frame[frame["benchmark"] == name], folder, layouts, shown)
        sections.append(section)
        texts[name] = section_markdown(section)
        _write(folder / f"{name}.md", texts[name])
        _write(folder / f"{name}.csv", section.table.to_csv(index=False))
        _write(folder / f"{name}.tex", latex(section.table, benchmark))
    controls = control_lines(frame, epoch_that_decides(frame))
    report = Report(profile, frame, shown, sections, verdicts(frame), verdicts(frame, "best"), controls)
    _write(folder / "claims.md", claims_markdown(report.verdicts, report.verdicts_best, controls))
    timed = frame[frame["benchmark"].isin(TIMED) | (frame["benchmark"] == "")]
    _write(folder / "spent.csv", spent_curves(timed, runs).to_csv(index=False))
    _write(folder / "claims.csv", _claims_csv([*report.verdicts, *report.verdicts_best]))
    _write(folder / "runs.csv", frame.to_csv(index=False))
    write_page(report, cells, folder, runs)
    return texts


def _section(
    benchmark: Benchmark, frame: pd.DataFrame, folder: Path, layouts: Layouts, shown: Mapping[str, Look]
) -> Section:
    pairs = set(frame["pair"])
    table = summary(frame, benchmark)
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
        notes(frame, benchmark, table),
        reproductions(pairs) if benchmark.id in WITH_REPRODUCTIONS else reproductions(set()),
        draw(frame, benchmark, folder, layouts, shown),
    )


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


def section_markdown(section: Section) -> str:
    """The section as a person reads it in a terminal or on GitHub."""
    benchmark = section.benchmark
    measures = "; ".join(f"{measure.label}: {measure.title}" for measure in benchmark.measures)
    parts = [f"## {benchmark.title}\n", f"Mean and standard deviation over seeds. {measures}.\n"]
    parts += [markdown(section.table, benchmark), *(f"{note}\n" for note in section.notes)]
    for measure in benchmark.measures:
        gaps = section.differences[measure.label]
        if not gaps.empty:
            parts.append(
                f"Paired by seed, {benchmark.reference} minus each other, {measure.title}, mean and 95 % t interval:\n"
            )
            parts.append("\n".join(f"- {line}" for line in difference_lines(gaps, benchmark, measure.digits)) + "\n")
        pairs = section.pairs.get(measure.label)
        if pairs is not None and not pairs.empty:
            over = "" if section.table["column"].nunique() < 2 else ", mean over columns"
            parts.append(f"Row minus column, {measure.title}{over}; bold: different from zero (5 %, Holm):\n")
            parts.append(matrix_markdown(pairs, measure.digits))
    if section.ranking:
        parts.append(f"Ranking by {benchmark.measures[0].title}:\n")
        parts += [f"{line}\n" for line in section.ranking]
    if not section.reproductions.empty:
        parts.append("Independent reproductions:\n")
        parts.append(
            "\n".join(
                f"- {r['by']}, {r['dataset']}, {r['pair']}, {r['method']}: {r['top1']} ({r['protocol']})"
                for r in section.reproductions.to_dict("records")
            )
            + "\n"
        )
    return "\n".join(parts)


def difference_lines(gaps: pd.DataFrame, benchmark: Benchmark, digits: int) -> list[str]:
    """ "vgg13/vgg8: SSKD - CRD: +1.27 [0.31, 2.23], 3 seeds"; columns after each other, then their average."""
    lines = []
    columns = len(set(gaps["column"]) - {AVERAGE})
    for gap in gaps.to_dict("records"):
        interval = (
            f"[{number(gap['lower'], digits, True)}, {number(gap['upper'], digits, True)}], {gap['seeds']} seeds"
            if gap["seeds"] > 1
            else "(one seed: no interval)"
        )
        column = f"average over {columns} columns" if gap["column"] == AVERAGE else gap["column"]
        lines.append(
            f"{column}: {benchmark.reference} - {gap['row']}: {number(gap['difference'], digits, True)} {interval}"
        )
    return lines


def matrix_markdown(pairs: pd.DataFrame, digits: int) -> str:
    """All pairs as a matrix in Markdown. ``pairs``: see statistics.pairwise."""
    rows = list(dict.fromkeys([*pairs["row"], *pairs["other"]]))
    known = {(pair["row"], pair["other"]): pair for pair in pairs.to_dict("records")}
    lines = [["", *rows, "wins"], ["---"] * (len(rows) + 2)]
    for row in rows:
        line, own = [row], [pair for (first, _), pair in known.items() if first == row]
        for other in rows:
            pair = known.get((row, other))
            text = number(pair["difference"], digits, True) if pair else "-"
            line.append(f"**{text}**" if pair and is_sure(pair["p_holm"]) else text)
        wins, of = sum(pair["wins"] for pair in own), sum(pair["comparisons"] for pair in own)
        lines.append([*line, f"{100 * wins / of:.0f} % of {of}"])
    return "\n".join("| " + " | ".join(line) + " |" for line in lines) + "\n"


def claims_markdown(deciding: list[Verdict], best: list[Verdict], controls: Sequence[str] = ()) -> str:
    """A row for each claim that has runs, one line for all that have none, and what the controls gave."""
    epoch = EPOCHS[deciding[0].epoch] if deciding else ""
    lines = [
        "## The paper's claims\n",
        f"Judged on the {epoch}; the best epoch on the test images, which the paper reports, stands beside it.",
        "Intervals: 95 %, paired by seed, valid however often one looks (docs/statistics.md).\n",
    ]
    judged = [both for both in zip(deciding, best, strict=True) if both[0].runs]
    if judged:
        lines.append(
            f"| id | claim | {epoch} | best on test | effect | 95 % interval | paper | seeds | runs | in words |"
        )
        lines.append("| --- | --- | --- | --- | --- | --- | --- | --- | --- | --- |")
    for verdict, other in judged:
        shown = not pd.isna(verdict.lower)
        interval = f"[{number(verdict.lower, 3)}, {number(verdict.upper, 3)}]" if shown else "-"
        effect = f"{verdict.measured}: {number(verdict.effect, 3, True)}" if verdict.measured else "-"
        cells = [verdict.id, verdict.statement, verdict.verdict, other.verdict, effect, interval]
        cells += [f"{verdict.size:g}" if verdict.size is not None else "-", verdict.seeds_text, str(len(verdict.runs))]
        lines.append("| " + " | ".join([*cells, verdict.text]) + " |")
    absent = [f"{verdict.id} ({verdict.where})" for verdict in deciding if not verdict.runs]
    if absent:
        lines.append(("\n" if judged else "") + f"Undecided, as none of their runs is finished: {', '.join(absent)}.")
    if controls:
        lines += ["\n### Controls, where there is nothing to find\n", *(f"- {line}" for line in controls)]
    return "\n".join(lines) + "\n"


def _claims_csv(all_verdicts: list[Verdict]) -> str:
    rows = [
        verdict._asdict() | {"runs": " ".join(verdict.runs), "need": verdict.need.seeds if verdict.need else None}
        for verdict in all_verdicts
    ]
    return pd.DataFrame(rows).to_csv(index=False)


def _write(path: Path, text: str) -> None:
    write_atomically(path, lambda file: file.write(text.encode()))
