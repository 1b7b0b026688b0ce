"""The paper's claims on the page: verdicts, their certainty, and the comparisons behind them."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import pandas as pd

from benchmarks.report.curves import Plot
from benchmarks.report.forest import Scale, digits_of, forest, interval_text, scale_of
from benchmarks.report.page_tables import CellKey
from benchmarks.report.tables import format_number
from benchmarks.statistics.comparison import SENTENCE, by_seed, deciding_measure, seed_correlation
from benchmarks.statistics.controls import Control, false_calls
from benchmarks.statistics.judging import ComparisonResult, Verdict, deciding_epochs, epoch_that_decides
from benchmarks.statistics.verdict import CONTRADICTED, EQUIVALENT, SUPPORTED, UNDECIDED
from benchmarks.statistics.wording import MANY
from sskd.formatting import first_of, plural

if TYPE_CHECKING:
    from benchmarks.report.section import Report

CellLinks = Mapping[tuple[str, str, str], Mapping[str, str]]  # links by (benchmark, row, column) and measure
NAMED = 3  # maximum number of comparisons in a claim's summary


def verdict_entries(
    report: "Report", anchors: Mapping[CellKey, str], plots: Mapping[str, list[Plot]]
) -> dict[str, Any]:
    """Returns the claims, and what limits the trust in their verdicts."""
    judged = [both for both in zip(report.verdicts, report.verdicts_best, strict=True) if both[0].runs]
    counts = {
        kind: sum(verdict.verdict == kind for verdict, _ in judged)
        for kind in (SUPPORTED, CONTRADICTED, EQUIVALENT, UNDECIDED)
    }
    absent = [verdict for verdict in report.verdicts if not verdict.runs]
    cells: dict[tuple[str, str, str], dict[str, str]] = {}
    for (benchmark, row, column, label), anchor in anchors.items():
        cells.setdefault((benchmark, row, column), {})[label] = anchor
    return {
        "headline": headline(counts, len(report.verdicts)),
        "deciding": deciding_epochs(report.verdicts),
        "claims": [claim_entry(verdict, best, cells, plots) for verdict, best in judged],
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


def correlation_lines(report: "Report") -> list[str]:
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


def claim_entry(
    verdict: Verdict, best: Verdict, cells: CellLinks | None = None, plots: Mapping[str, list[Plot]] | None = None
) -> dict[str, Any]:
    digits = digits_of([verdict.effect, verdict.lower, verdict.upper])
    own = scale_of([verdict.effect, verdict.lower, verdict.upper, verdict.size])
    parts = verdict.comparisons if len(verdict.comparisons) > 1 else []
    shared = scale_of([x for part in parts for x in (part.effect, part.lower, part.upper, part.bound)])
    return verdict._asdict() | {
        "reason": verdict.reason,
        "effect_text": verdict.effect_text,
        "seeds": verdict.seeds_text,
        "best": best.verdict,
        "shown": "" if pd.isna(verdict.effect) else format_number(verdict.effect, digits, signed=True),
        "interval": interval_text(verdict.lower, verdict.upper, digits),
        "plot": forest(own, verdict.effect, verdict.lower, verdict.upper, 0.0, verdict.size),
        "parts": [_part(verdict, part, shared, cells or {}, plots or {}) for part in parts],
        "parts_text": _parts_text(verdict) if parts else "",
    }


def _parts_text(verdict: Verdict) -> str:
    """Formats "2 of 6 comparisons decided: SSKD - KD, 25% (above); ..."."""
    sides = {SUPPORTED: "above", CONTRADICTED: "below", EQUIVALENT: "equivalent"}
    named = [f"{part.name} ({sides[part.verdict]})" for part in verdict.decided]

    text = f"{len(named)} of {len(verdict.comparisons)} comparisons decided"
    return f"{text}: {first_of(named, NAMED, between='; ')}" if 0 < len(named) < len(verdict.comparisons) else text


def _part(
    verdict: Verdict,
    part: ComparisonResult,
    position: Scale,
    cells: CellLinks,
    plots: Mapping[str, list[Plot]],
) -> dict[str, Any]:
    digits = digits_of([part.effect, part.lower, part.upper])
    benchmark = verdict.benchmark
    columns = list(dict.fromkeys(column for _, column in part.cells))
    links = []
    for row, column in part.cells:
        known = cells.get((benchmark, row, column), {})
        if known:
            anchor = known.get(verdict.epoch) or next(iter(known.values()))
            links.append((anchor, row if len(columns) == 1 else f"{row}, {column}"))
    return {
        "name": part.name,
        "value": "" if pd.isna(part.effect) else round(part.effect, 6),
        "shown": "" if pd.isna(part.effect) else format_number(part.effect, digits, signed=True),
        "interval": interval_text(part.lower, part.upper, digits),
        "bound": part.bound,
        "seeds": part.seeds,
        "verdict": part.verdict,
        "alone": part.alone if part.alone != part.verdict else "",
        "plot": forest(position, part.effect, part.lower, part.upper, part.bound, None),
        "links": links,
        "curves": [(f"curve-{plot.id}", plot.title) for plot in plots.get(benchmark, []) if plot.column in columns],
    }


def _control(control: Control) -> dict[str, Any]:
    digits = digits_of([control.effect, control.lower, control.upper])
    position = scale_of([control.effect, control.lower, control.upper])
    return control._asdict() | {
        "shown": format_number(control.effect, digits, signed=True),
        "interval": interval_text(control.lower, control.upper, digits),
        "plot": forest(position, control.effect, control.lower, control.upper, 0.0, None),
        "permuted": "" if control.permuted is None else f"{100 * control.permuted:.1f} %",
        "seeds": plural(control.seeds, "seed"),
    }


def _aa_text(controls: Sequence[Control]) -> str:
    wrong, of = false_calls(controls)
    return f"{wrong} of {plural(of, 'comparison')} of KD with itself called a difference" if of else ""
