"""First part of the page: the user's own method, or the reference row, compared with its rivals."""

from collections.abc import Mapping, Sequence
from typing import Any

from benchmarks.report.forest import digits_of, forest, gap_entry, scale_of
from benchmarks.report.page_tables import cell_anchor
from benchmarks.report.section import Report, Section
from benchmarks.statistics.comparison import AVERAGE, CONTROLS, Rule, deciding_measure, is_sure, rule_of
from benchmarks.statistics.intervals import is_equivalent
from benchmarks.statistics.wording import listed
from benchmarks.tables.benchmark import Measure

AHEAD, BEHIND, EQUIVALENT, UNDECIDED = "ahead", "behind", "equivalent", "undecided"
WORDS = {AHEAD: "ahead of", BEHIND: "behind", EQUIVALENT: "equivalent to", UNDECIDED: "undecided against"}
NAMED = 4  # maximum number of rivals per verdict in a headline


def asked(report: Report) -> dict[str, Any] | None:
    """Returns the comparison with each rival: one benchmark in full, the others in a line each. Returns None if no
    benchmark compares methods, or no two methods share a finished seed."""
    which, rule = report.verdicts[0].epoch, rule_of(report.profile)
    found = []
    for section in sorted(report.sections, key=lambda section: not section.benchmark.own_methods):
        measure = deciding_measure(section.benchmark, which)
        if section.benchmark.rows == "method" and (rivals := _rivals(section, measure, rule)):
            found.append((section, measure, rivals))
    if not found:
        return None
    section, measure, rivals = found[0]
    return {
        "reference": section.benchmark.reference,
        "benchmark": section.benchmark,
        "measure": measure,
        "headline": headline(section.benchmark.reference, rivals),
        "rivals": rivals,
        "columns": len({rival["where"] for rival in rivals}) > 1,
        "others": [
            {
                "id": other.benchmark.id,
                "title": other.benchmark.title,
                "text": headline(other.benchmark.reference, more) + _where(more, other.frame["column"].nunique()),
            }
            for other, _, more in found[1:]
        ],
    }


def _where(rivals: Sequence[Mapping[str, Any]], columns: int) -> str:
    """Returns " (mean over 2 columns)" or the columns with runs; "" for a table with one column."""
    places = list(dict.fromkeys(rival["where"] for rival in rivals))
    if columns == 1:
        return ""
    every = len(places) == columns or all(place.startswith("mean over") for place in places)
    return f" ({listed(places)})" if every else f" ({listed(places)}; the table has {columns} columns)"


def headline(reference: str, rivals: Sequence[Mapping[str, Any]]) -> str:
    """Formats "Mine is ahead of KD and AT; undecided against CRD". A rival with different verdicts in different columns
    is named with its column."""
    verdicts: dict[str, set[str]] = {}
    for rival in rivals:
        verdicts.setdefault(rival["row"], set()).add(rival["verdict"])
    parts = []
    for kind, words in WORDS.items():
        names = dict.fromkeys(
            rival["row"] if len(verdicts[rival["row"]]) == 1 else f"{rival['row']} ({rival['where']})"
            for rival in rivals
            if rival["verdict"] == kind
        )
        if names:
            parts.append(f"{words} {listed(list(names), most=NAMED)}")
    return f"{reference} is {'; '.join(parts)}"


def _rivals(section: Section, measure: Measure, rule: Rule) -> list[dict[str, Any]]:
    """Returns a line per rival: the mean over all columns if both have them all, else one line per column. Columns that
    are numbers on an x axis always have a line each, because their mean depends on which numbers were chosen."""
    columns = list(dict.fromkeys(map(str, section.frame["column"])))
    gaps = [gap for gap in section.differences[measure.label].to_dict("records") if gap["row"] not in CONTROLS]
    each = section.benchmark.figure == "lines"
    over_all = {gap["row"] for gap in gaps if gap["column"] == AVERAGE and not each}
    shown = [
        gap
        for row in dict.fromkeys(gap["row"] for gap in gaps)
        for gap in gaps
        if gap["row"] == row and (gap["column"] == AVERAGE) == (row in over_all)
    ]
    position = scale_of([gap[name] for gap in shown for name in ("difference", "lower", "upper")])
    lines = []
    for gap in shown:
        average, effect, lower, upper = gap["column"] == AVERAGE, gap["difference"], gap["lower"], gap["upper"]
        side = AHEAD if (effect > 0) == measure.larger_is_better else BEHIND
        alone = side if lower > 0 or upper < 0 else UNDECIDED
        verdict = side if is_sure(gap["p_holm"]) else UNDECIDED
        if verdict == UNDECIDED and "top1" in measure.name and is_equivalent(lower, upper, rule.margin):
            verdict = alone = EQUIVALENT
        column = columns[0] if average else gap["column"]
        digits = max(measure.digits, digits_of([effect])) if measure.digits > 2 else measure.digits
        line = {
            "row": gap["row"],
            "where": f"mean over {len(columns)} columns" if average else column,
            "anchor": cell_anchor(section.benchmark.id, gap["row"], column, measure.label),
            "plot": forest(position, effect, lower, upper),
            "verdict": verdict,
            "alone": alone if alone not in (verdict, UNDECIDED) else "",
        }
        lines.append(line | gap_entry(gap, digits))
    return lines
