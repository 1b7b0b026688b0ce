"""The paper's claims on the page: verdicts, their certainty, and the comparisons behind them."""

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from benchmarks.report.curves import Plot
from benchmarks.report.forest import Scale, effect_entry, scale_of
from benchmarks.report.page_tables import cell_anchor
from benchmarks.report.section import Report, Section
from benchmarks.statistics.comparison import SENTENCE, by_seed, deciding_measure, seed_correlation
from benchmarks.statistics.controls import Control, false_calls
from benchmarks.statistics.judging import ComparisonResult, Verdict, deciding_epochs, epoch_that_decides
from benchmarks.statistics.verdict import CONTRADICTED, EQUIVALENT, SUPPORTED, UNDECIDED
from benchmarks.statistics.wording import MANY
from sskd.formatting import first_of, plural

NAMED = 3  # maximum number of comparisons in a claim's summary


def verdict_entries(report: Report, plots: Mapping[str, list[Plot]]) -> dict[str, Any]:
    """Returns the claims, and what limits the trust in their verdicts."""
    judged = [both for both in zip(report.verdicts, report.verdicts_best, strict=True) if both[0].runs]
    counts = Counter(verdict.verdict for verdict, _ in judged)
    absent = [verdict for verdict in report.verdicts if not verdict.runs]
    sections = {section.benchmark.id: section for section in report.sections}
    return {
        "headline": headline(counts, len(report.verdicts)),
        "deciding": deciding_epochs(report.verdicts),
        "claims": [
            claim_entry(verdict, best, sections.get(verdict.benchmark), plots.get(verdict.benchmark, ()))
            for verdict, best in judged
        ],
        "unjudged": absent,
        "controls": [_control(control) for control in report.controls],
        "aa": _aa_text(report.controls),
        "rule": SENTENCE,
        "many": MANY,
        "correlations": correlation_lines(report),
        "teacher_variance": list(
            dict.fromkeys(verdict.teacher_variance for verdict, _ in judged if verdict.teacher_variance)
        ),
    }


def correlation_lines(report: Report) -> list[str]:
    """Returns the correlation of methods' accuracies within a seed, for each table of methods with three common
    seeds."""
    lines = []
    for section in report.sections:
        measure = deciding_measure(section.benchmark, epoch_that_decides(section.frame))
        value, pairs = seed_correlation(by_seed(section.frame, measure.name))
        if section.benchmark.rows == "method" and pairs:
            lines.append(f"{section.benchmark.id} {value:+.2f} ({plural(pairs, 'pair')} of methods)")
    return lines


def headline(counts: Mapping[str, int], claims: int) -> str:
    """Formats "2 of 10 claims decided: 1 supported, 1 contradicted", then the undecided claims and those without
    runs."""
    kinds = (SUPPORTED, CONTRADICTED, EQUIVALENT)
    decided = sum(counts.get(kind, 0) for kind in kinds)
    parts = [f"{counts[kind]} {kind}" for kind in kinds if counts.get(kind)]
    first = f"{decided} of {plural(claims, 'claim')} decided: {', '.join(parts)}" if decided else "No claim decided yet"
    rest = [f"{counts[UNDECIDED]} undecided"] if counts[UNDECIDED] else []
    absent = claims - decided - counts[UNDECIDED]
    rest += [f"{absent} without a finished run"] if absent else []
    return "; ".join([first, *rest]) if rest else first


def claim_entry(verdict: Verdict, best: Verdict, section: Section | None, plots: Sequence[Plot]) -> dict[str, Any]:
    """Returns a claim for the template. best: its verdict at the best epoch. section, plots: its benchmark's."""
    own = scale_of([verdict.effect, verdict.lower, verdict.upper, verdict.size])
    parts = verdict.comparisons if len(verdict.comparisons) > 1 else []
    shared = scale_of([x for part in parts for x in (part.effect, part.lower, part.upper, part.bound)])
    entry = verdict._asdict() | effect_entry(verdict, own, size=verdict.size)
    return entry | {
        "effect_text": verdict.effect_text,
        "seeds": verdict.seeds_text,
        "best": best.verdict,
        "parts": [_part(verdict, part, shared, section, plots) for part in parts],
        "parts_text": _parts_text(verdict) if parts else "",
    }


def _parts_text(verdict: Verdict) -> str:
    """Formats "2 of 6 comparisons decided: SSKD - KD, 25% (above); ..."."""
    words = {SUPPORTED: "above", CONTRADICTED: "below", EQUIVALENT: "equivalent"}
    named = [f"{part.name} ({words[part.verdict]})" for part in verdict.decided]
    text = f"{len(named)} of {len(verdict.comparisons)} comparisons decided"
    return f"{text}: {first_of(named, NAMED, between='; ')}" if 0 < len(named) < len(verdict.comparisons) else text


def _part(
    verdict: Verdict, part: ComparisonResult, position: Scale, section: Section | None, plots: Sequence[Plot]
) -> dict[str, Any]:
    columns = {column for _, column in part.cells}
    links = []
    if section:
        label = deciding_measure(section.benchmark, verdict.epoch).label
        shown = set(zip(section.table["row"], section.table["column"], strict=True))
        links = [
            (
                cell_anchor(section.benchmark.id, row, column, label),
                row if len(columns) == 1 else f"{row}, {column}",
            )
            for row, column in part.cells
            if (row, column) in shown
        ]
    return effect_entry(part, position, part.bound) | {
        "name": part.name,
        "seeds": part.seeds,
        "verdict": part.verdict,
        "alone": part.alone if part.alone != part.verdict else "",
        "links": links,
        "curves": [(f"curve-{plot.id}", plot.title) for plot in plots if plot.column in columns],
    }


def _control(control: Control) -> dict[str, Any]:
    position = scale_of([control.effect, control.lower, control.upper])
    return (
        control._asdict()
        | effect_entry(control, position)
        | {
            "permuted": "" if control.permuted is None else f"{100 * control.permuted:.1f} %",
            "seeds": plural(control.seeds, "seed"),
        }
    )


def _aa_text(controls: Sequence[Control]) -> str:
    wrong, of = false_calls(controls)
    return f"{wrong} of {plural(of, 'comparison')} of KD with itself called a difference" if of else ""
