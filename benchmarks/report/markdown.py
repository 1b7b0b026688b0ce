"""Formats a report's sections as Markdown."""

from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd

from benchmarks.report.escaping import markdown_text
from benchmarks.report.section import Section
from benchmarks.report.tables import markdown
from benchmarks.statistics.comparison import AVERAGE, SENTENCE, is_sure
from benchmarks.statistics.controls import Control, control_lines
from benchmarks.statistics.judging import Verdict, deciding_epochs
from benchmarks.statistics.wording import MANY, effect_text
from benchmarks.tables.benchmark import Benchmark
from sskd.formatting import markdown_table, plural


def section_markdown(section: Section) -> str:
    """Returns the section as Markdown, for a terminal or GitHub."""
    benchmark = section.benchmark
    measures = "; ".join(f"{measure.label}: {measure.title}" for measure in benchmark.measures)
    parts = [f"## {benchmark.title}\n", f"Mean and standard deviation over seeds. {measures}.\n"]
    parts += [markdown(section.table, benchmark), *(f"{markdown_text(note)}\n" for note in section.notes)]
    for measure in benchmark.measures:
        gaps = section.differences[measure.label]
        if not gaps.empty:
            parts.append(f"{benchmark.reference} minus every other {benchmark.rows}, {measure.title}:\n")
            parts.append("\n".join(f"- {line}" for line in difference_lines(gaps, benchmark, measure.digits)) + "\n")
        pairs = section.pairs.get(measure.label)
        if pairs is not None and not pairs.empty:
            over = "" if section.table["column"].nunique() < 2 else ", mean over columns"
            parts.append(
                f"Row minus column, {measure.title}{over}; bold: significant after Holm's correction over all pairs:\n"
            )
            parts.append(matrix_markdown(pairs, measure.digits))
    if any(len(gaps) for gaps in section.differences.values()):
        parts.append(f"{SENTENCE}\n")
    if section.ranking:
        parts.append("Ranking by the deciding epoch:\n")
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
    """Formats lines such as "vgg13/vgg8: SSKD - CRD: **+1.27 [0.31, 2.23]**, 3 seeds, better in 89 % of seed pairs", in
    Markdown: all columns, then their average."""
    lines = []
    columns = len(set(gaps["column"]) - {AVERAGE})
    for gap in gaps.to_dict("records"):
        text = gap_text(gap, digits)
        column = f"average over {columns} columns" if gap["column"] == AVERAGE else gap["column"]
        named = markdown_text(f"{column}: {benchmark.reference} - {gap['row']}:")
        lower, upper = gap["pairs_lower"], gap["pairs_upper"]
        over = "" if pd.isna(lower) else f"; columns like these: [{lower:+.{digits}f}, {upper:+.{digits}f}]"
        better = f"better in {round(100 * gap['improvement'])} % of seed pairs"
        shown = f"**{text}**" if is_sure(gap["p_holm"]) else text
        lines.append(f"{named} {shown}, {plural(gap['seeds'], 'seed')}, {better}{over}")
    return lines


def gap_text(gap: Mapping[Any, Any], digits: int) -> str:
    """Formats a difference and its interval: "+1.27 [+0.31, +2.23]"."""
    return effect_text(gap["difference"], gap["lower"], gap["upper"], digits, signed=True)


def matrix_markdown(pairs: pd.DataFrame, digits: int) -> str:
    """Formats all pairs as a matrix in Markdown. pairs: from comparison.pairwise."""
    rows = list(dict.fromkeys([*pairs["row"], *pairs["other"]]))
    known = {(pair["row"], pair["other"]): pair for pair in pairs.to_dict("records")}

    def cell(row: str, other: str) -> str:
        pair = known.get((row, other))
        text = gap_text(pair, digits) if pair else "-"
        return f"**{text}**" if pair and is_sure(pair["p_holm"]) else text

    names = {row: markdown_text(row) for row in rows}
    lines = ([name, *(cell(row, other) for other in rows)] for row, name in names.items())
    return markdown_table(["", *names.values()], lines)


def claims_markdown(deciding: list[Verdict], best: list[Verdict], controls: Sequence[Control] = ()) -> str:
    """Returns claims.md: a row per claim with runs, one line for all claims without, and the controls."""
    epoch = deciding_epochs(deciding)
    lines = [
        "## The paper's claims\n",
        f"Judged at the {epoch}; next to it the verdict at the best epoch on the test images, as in the paper.",
        f"Intervals: 95 %, valid under sequential testing (docs/statistics.md). {MANY}\n",
    ]
    judged = [both for both in zip(deciding, best, strict=True) if both[0].runs]
    rows = []
    for verdict, other in judged:
        cells = [verdict.id, verdict.statement, verdict.effect_text or "-", verdict.verdict, other.verdict]
        cells += [f"{verdict.size:g}" if verdict.size is not None else "-", verdict.seeds_text, str(len(verdict.runs))]
        rows.append([*map(markdown_text, [*cells, verdict.text])])
    if judged:
        head = ["id", "claim", "effect and 95 % interval", epoch, "best on test", "paper", "seeds", "runs", "in words"]
        lines.append(markdown_table(head, rows).rstrip("\n"))
    absent = [f"{verdict.id} ({verdict.where})" for verdict in deciding if not verdict.runs]
    if absent:
        lines.append(("\n" if judged else "") + f"Undecided, because no run is finished: {', '.join(absent)}.")
    for verdict, _ in judged:
        if len(verdict.comparisons) > 1:
            lines += [f"\n### {verdict.id}, verdict per comparison\n", *part_lines(verdict)]
    if controls:
        found = control_lines(controls)
        lines += ["\n### Controls\n", *(f"- {line}" for line in found)]
    return "\n".join(lines) + "\n"


def part_lines(verdict: Verdict) -> list[str]:
    """Returns the restated claim, and lines such as "- SSKD - KD, 25%: +4.05 [1.20, 6.90], 3 seeds: supported"."""
    lines = [f"{markdown_text(verdict.restated)}.\n"]
    for part in verdict.comparisons:
        effect = "no run" if pd.isna(part.effect) else effect_text(part.effect, part.lower, part.upper)
        alone = "" if part.alone == part.verdict else f" ({part.alone} without correction)"
        lines.append(f"- {markdown_text(part.name)}: {effect}, {plural(part.seeds, 'seed')}: {part.verdict}{alone}")
    return lines
