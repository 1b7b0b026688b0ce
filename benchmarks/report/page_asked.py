"""What the page says first: how the user's own method, or the row that others are compared with, stands to rivals."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from benchmarks.report.forest import digits_of, forest, interval_text, scale
from benchmarks.report.page_tables import Place
from benchmarks.report.tables import format_number
from benchmarks.statistics.comparison import AVERAGE, accuracy_floor, by_seed, is_sure, paired
from benchmarks.statistics.controls import AGAIN, PLACEBO
from benchmarks.statistics.intervals import sequential_interval
from benchmarks.statistics.judging import EPOCHS, listed
from benchmarks.tables.benchmark import Measure

if TYPE_CHECKING:
    from benchmarks.report.section import Report, Section

AHEAD, BEHIND, UNDECIDED = "ahead", "behind", "undecided"
WORDS = {AHEAD: "ahead of", BEHIND: "behind", UNDECIDED: "undecided against"}
CONTROLS = (AGAIN, PLACEBO)  # no rivals: the page tells them beside the verdicts
NAMED = 4  # rivals that a headline names of each kind


def asked(report: "Report", anchors: Mapping[Place, str]) -> dict[str, Any] | None:
    """The comparison with each rival, of one benchmark in full and of the others in a line; None where no benchmark
    compares methods, or no two of them share a finished seed."""
    which = report.verdicts[0].epoch
    sections = sorted(report.sections, key=lambda section: not section.benchmark.own_methods)
    told = [(section, measure_of(section, which)) for section in sections if section.benchmark.rows == "method"]
    found = [(section, measure, _rivals(section, measure, anchors)) for section, measure in told]
    found = [entry for entry in found if entry[2]]
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
                "text": headline(other.benchmark.reference, more) + _where(more),
            }
            for other, _, more in found[1:]
        ],
        "epoch": EPOCHS[which],
    }


def _where(rivals: Sequence[Mapping[str, Any]]) -> str:
    """ " (mean over 2 columns)" where that is what all lines are of."""
    places = {rival["where"] for rival in rivals}
    return f" ({place})" if len(places) == 1 and (place := places.pop()).startswith("mean over") else ""


def measure_of(section: "Section", which: str) -> Measure:
    """The measure that decides: the accuracy of the epoch that verdicts are judged on, else the table's first."""
    measures = section.benchmark.measures
    return next((measure for measure in measures if measure.name == f"{which}_top1"), measures[0])


def headline(reference: str, rivals: Sequence[Mapping[str, Any]]) -> str:
    """ "Mine is ahead of KD and AT; undecided against CRD". A rival that stands otherwise in another column is named
    with its column."""
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


def _rivals(section: "Section", measure: Measure, anchors: Mapping[Place, str]) -> list[dict[str, Any]]:
    """A line for each rival: over all columns where the two share a seed in every one, else for each column."""
    frame, benchmark = section.frame, section.benchmark
    values, columns = by_seed(frame, measure.name), list(dict.fromkeys(map(str, frame["column"])))
    floor = accuracy_floor(frame, measure)
    sure = {
        (str(gap["column"]), str(gap["row"])): is_sure(gap["p_holm"])
        for gap in section.differences[measure.label].to_dict("records")
    }
    lines = []
    for row in dict.fromkeys(map(str, frame["row"])):
        if row in (benchmark.reference, "Teacher", *CONTROLS):
            continue
        gaps = {c: paired(values.get((benchmark.reference, c), {}), values.get((row, c), {})) for c in columns}
        seeds = sorted(set.intersection(*map(set, gaps.values())))
        places = {column: list(gaps[column].values()) for column in columns if gaps[column]}
        if len(columns) > 1 and seeds:
            places = {AVERAGE: [float(np.mean([gaps[column][seed] for column in columns])) for seed in seeds]}
        for column, differences in places.items():
            lines.append(_line(row, column, len(columns), differences, floor, sure.get((column, row), False), measure))
            where = columns[0] if column == AVERAGE else column
            lines[-1]["anchor"] = anchors.get((benchmark.id, row, where, measure.label), "")
    place = scale([x for line in lines for x in line["marks"]])
    for line in lines:
        effect, lower, upper = line["marks"]
        line["plot"] = forest(place, effect, lower, upper, 0.0, None)
    return lines


def _line(
    row: str, column: str, columns: int, differences: list[float], floor: float, sure: bool, measure: Measure
) -> dict[str, Any]:
    estimate = sequential_interval(differences, floor=floor)
    better = estimate.mean > 0 if measure.larger_is_better else estimate.mean < 0
    side = AHEAD if better else BEHIND
    alone = not pd.isna(estimate.lower) and (estimate.lower > 0 or estimate.upper < 0)
    digits = max(measure.digits, digits_of([estimate.mean])) if measure.digits > 2 else measure.digits
    return {
        "row": row,
        "where": f"mean over {columns} columns" if column == AVERAGE else column,
        "value": round(estimate.mean, 6),
        "text": format_number(estimate.mean, digits, signed=True),
        "interval": interval_text(estimate.lower, estimate.upper, digits),
        "seeds": len(differences),
        "verdict": side if sure else UNDECIDED,
        "alone": side if alone and not sure else "",
        "marks": (estimate.mean, estimate.lower, estimate.upper),
    }
