"""A report's parts as Markdown."""

from collections.abc import Sequence

import pandas as pd

from benchmarks.report.escaping import markdown_text
from benchmarks.report.section import Section
from benchmarks.report.tables import format_number, markdown
from benchmarks.statistics.comparison import AVERAGE, is_sure
from benchmarks.statistics.controls import Control, control_lines
from benchmarks.statistics.judging import Verdict, deciding_epochs
from benchmarks.tables.benchmark import Benchmark
from sskd.formatting import plural


def section_markdown(section: Section) -> str:
    """The section as a person reads it in a terminal or on GitHub."""
    benchmark = section.benchmark
    measures = "; ".join(f"{measure.label}: {measure.title}" for measure in benchmark.measures)
    parts = [f"## {benchmark.title}\n", f"Mean and standard deviation over seeds. {measures}.\n"]
    parts += [markdown(section.table, benchmark), *(f"{markdown_text(note)}\n" for note in section.notes)]
    for measure in benchmark.measures:
        gaps = section.differences[measure.label]
        if not gaps.empty:
            parts.append(
                f"Paired by seed, {benchmark.reference} minus each other, {measure.title}, mean and 95 % t interval:\n"
            )
            parts.append(
                "\n".join(f"- {markdown_text(line)}" for line in difference_lines(gaps, benchmark, measure.digits))
                + "\n"
            )
        pairs = section.pairs.get(measure.label)
        if pairs is not None and not pairs.empty:
            over = "" if section.table["column"].nunique() < 2 else ", mean over columns"
            parts.append(f"Row minus column, {measure.title}{over}; bold: different from zero (5 %, Holm):\n")
            parts.append(matrix_markdown(pairs, measure.digits))
    if section.ranking:
        parts.append(f"Ranking by {benchmark.measures[0].title}:\n")
        parts += [f"{markdown_text(line)}\n" for line in section.ranking]
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
        mean, lower, upper = (format_number(gap[key], digits, True) for key in ("difference", "lower", "upper"))
        interval = f"[{lower}, {upper}], {gap['seeds']} seeds" if gap["seeds"] > 1 else "(one seed: no interval)"
        column = f"average over {columns} columns" if gap["column"] == AVERAGE else gap["column"]
        lines.append(f"{column}: {benchmark.reference} - {gap['row']}: {mean} {interval}")
    return lines


def matrix_markdown(pairs: pd.DataFrame, digits: int) -> str:
    """All pairs as a matrix in Markdown. ``pairs``: see statistics.pairwise."""
    rows = list(dict.fromkeys([*pairs["row"], *pairs["other"]]))
    known = {(pair["row"], pair["other"]): pair for pair in pairs.to_dict("records")}
    lines = [["", *map(markdown_text, rows), "wins"], ["---"] * (len(rows) + 2)]
    for row in rows:
        line, own = [markdown_text(row)], [pair for (first, _), pair in known.items() if first == row]
        for other in rows:
            pair = known.get((row, other))
            text = format_number(pair["difference"], digits, True) if pair else "-"
            line.append(f"**{text}**" if pair and is_sure(pair["p_holm"]) else text)
        wins, of = sum(pair["wins"] for pair in own), sum(pair["comparisons"] for pair in own)
        lines.append([*line, f"{100 * wins / of:.0f} % of {of}"])
    return "\n".join("| " + " | ".join(line) + " |" for line in lines) + "\n"


def claims_markdown(deciding: list[Verdict], best: list[Verdict], controls: Sequence[Control] = ()) -> str:
    """A row for each claim that has runs, one line for all that have none, and what the controls gave."""
    epoch = deciding_epochs(deciding)
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
        interval = f"[{format_number(verdict.lower, 3)}, {format_number(verdict.upper, 3)}]" if shown else "-"
        effect = f"{verdict.measured}: {format_number(verdict.effect, 3, True)}" if verdict.measured else "-"
        cells = [verdict.id, verdict.statement, verdict.verdict, other.verdict, effect, interval]
        cells += [f"{verdict.size:g}" if verdict.size is not None else "-", verdict.seeds_text, str(len(verdict.runs))]
        lines.append("| " + " | ".join(map(markdown_text, [*cells, verdict.text])) + " |")
    absent = [f"{verdict.id} ({verdict.where})" for verdict in deciding if not verdict.runs]
    if absent:
        lines.append(("\n" if judged else "") + f"Undecided, as none of their runs is finished: {', '.join(absent)}.")
    for verdict, _ in judged:
        if len(verdict.parts) > 1:
            lines += [f"\n### {verdict.id}, each comparison by itself\n", *part_lines(verdict)]
    if controls:
        found = control_lines(controls)
        lines += ["\n### Controls, where there is nothing to find\n", *(f"- {line}" for line in found)]
    return "\n".join(lines) + "\n"


def part_lines(verdict: Verdict) -> list[str]:
    """What was compared, and a line for each comparison: "- SSKD - KD, 25%: +4.05 [1.20, 6.90], 3 seeds: supported"."""
    lines = [f"{markdown_text(verdict.restated)}.\n"]
    for part in verdict.parts:
        interval = "" if pd.isna(part.lower) else f" [{format_number(part.lower, 3)}, {format_number(part.upper, 3)}]"
        effect = "no run" if pd.isna(part.effect) else f"{format_number(part.effect, 3, True)}{interval}"
        alone = "" if part.alone == part.verdict else f" ({part.alone} if it were the only one)"
        lines.append(f"- {markdown_text(part.name)}: {effect}, {plural(part.seeds, 'seed')}: {part.verdict}{alone}")
    return lines
