"""From numbers per seed to a verdict: supported, contradicted or undecided, and how many seeds would decide.

A claim is a set of parts, each a number per seed that must lie above a bound for the claim to hold (SSKD's accuracy
minus a rival's, with the same seed). Intervals are intervals.sequential_interval's: they hold while one looks after
each added seed. The claim is
- supported if every part's 95 % interval lies above its bound;
- contradicted if some part's interval lies below it, at a level corrected for the number of parts (Bonferroni: among
  forty comparisons one or two would fall below by chance);
- undecided otherwise: fewer than three seeds, runs missing, or an interval that spans the bound.
"""

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from benchmarks.statistics.intervals import (
    ERROR,
    FIRST,
    LAST,
    Estimate,
    half_width,
    seeds_that_decide,
    sequential_interval,
)

SUPPORTED, CONTRADICTED, UNDECIDED = "supported", "contradicted", "undecided"
Cells = tuple[tuple[str, str], ...]  # (row, column) of one benchmark


class Condition(NamedTuple):
    """A number per seed that must exceed ``bound``. sized: whether it is what the paper gives the claim's size of.
    cells: the (row, column) that it is made of. floor: the least standard deviation that it can have (see
    intervals.count_floor)."""

    name: str
    values: list[float]
    bound: float = 0.0
    sized: bool = True
    cells: Cells = ()
    floor: float = 0.0

    def interval(self, error: float = ERROR) -> Estimate:
        return sequential_interval(self.values, 1 - error, self.floor)


def decide(parts: Sequence[Condition]) -> tuple[str, str]:
    """The verdict on a claim of these parts, and why."""
    if not parts:
        return UNDECIDED, "nothing was run"
    for part in parts:
        if part.interval(ERROR / len(parts)).upper < part.bound:
            return CONTRADICTED, f"{part.name} is below {part.bound:g}"
    absent = [part for part in parts if not part.values]
    if absent:
        return UNDECIDED, f"runs are missing ({_first(absent)})"
    fewest = min(len(part.values) for part in parts)
    if fewest < FIRST:
        few = [part for part in parts if len(part.values) == fewest]
        seeds = "one seed gives" if fewest == 1 else "two seeds give"
        return UNDECIDED, f"{seeds} no interval that holds while one looks: it takes three ({_first(few)})"
    flat = [part for part in parts if math.isnan(part.interval().lower)]
    if flat:
        return UNDECIDED, f"equal seeds give no interval ({_first(flat)})"
    spans = [part for part in parts if not part.interval().lower > part.bound]
    if spans:
        more = f", and {len(spans) - 1} more" if len(spans) > 1 else ""
        return UNDECIDED, f"the interval of {spans[0].name} spans {spans[0].bound:g}{more}"
    return SUPPORTED, "every part's interval lies above its bound" if len(parts) > 1 else "its interval lies above 0"


def _first(parts: Sequence[Condition]) -> str:
    return parts[0].name + (f", and {len(parts) - 1} more" if len(parts) > 1 else "")


def weakest(parts: Sequence[Condition]) -> Condition | None:
    """The one whose mean is the least above its bound."""
    known = [part for part in parts if part.values]
    return min(known, key=lambda part: float(np.mean(part.values)) - part.bound, default=None)


class Need(NamedTuple):
    """What a claim lacks. ``seeds``: how many would decide it, those that are there included, if means and deviations
    stay what they are; None: more than LAST, or nobody can tell. ``cells``: those that need them."""

    claim: str
    benchmark: str
    have: int
    seeds: int | None
    towards: str  # "supported", "contradicted", or "" where the seeds do not tell yet
    cells: Cells


def need_of(claim: str, benchmark: str, parts: Sequence[Condition]) -> Need:
    """From the parts as they stand. A part with fewer than two seeds is taken to spread as the others do."""
    have = min((len(part.values) for part in parts), default=0)
    every = _cells(parts)
    spreads = _spreads(parts)
    if not parts or any(not part.values or math.isnan(spread) for part, spread in zip(parts, spreads, strict=True)):
        return Need(claim, benchmark, have, FIRST, "", every)
    if any(max(spread, part.floor) < 1e-9 for part, spread in zip(parts, spreads, strict=True)):
        return Need(claim, benchmark, have, max(FIRST, have + 1), "", every)
    known_need = _need_of_known(claim, benchmark, parts, spreads)
    if known_need.seeds is None and have < FIRST:  # too early to give up
        return Need(claim, benchmark, have, FIRST, "", every)
    return known_need


def _need_of_known(claim: str, benchmark: str, parts: Sequence[Condition], spreads: Sequence[float]) -> Need:
    """Where every part has a mean and a deviation."""
    have = min(len(part.values) for part in parts)
    gaps = [float(np.mean(part.values[:LAST])) - part.bound for part in parts]
    below = [i for i, gap in enumerate(gaps) if gap < 0]
    if below:
        sure = ERROR / len(parts)
        known = {i: seeds_that_decide(gaps[i], spreads[i], sure, parts[i].floor) for i in below}
        enough = {i: n for i, n in known.items() if n is not None}
        if not enough:
            return Need(claim, benchmark, have, None, CONTRADICTED, _cells([parts[i] for i in below]))
        first = min(enough, key=lambda i: (enough[i], gaps[i]))
        return Need(claim, benchmark, len(parts[first].values), enough[first], CONTRADICTED, parts[first].cells)
    needed = [seeds_that_decide(gap, s, ERROR, part.floor) for gap, s, part in zip(gaps, spreads, parts, strict=True)]
    unsure = [part for part, gap, spread in zip(parts, gaps, spreads, strict=True) if not _decided(part, gap, spread)]
    seeds = None if None in needed else max(n for n in needed if n is not None)
    return Need(claim, benchmark, have, seeds, SUPPORTED, _cells(unsure))


def _decided(part: Condition, gap: float, spread: float) -> bool:
    n = min(len(part.values), LAST)
    return n >= FIRST and gap > float(half_width(spread, n, ERROR, part.floor))


def _spreads(parts: Sequence[Condition]) -> list[float]:
    """Each part's standard deviation; where it has one seed, the root mean square of the others' (nan without any)."""
    known = [(len(p.values) - 1, float(np.var(p.values, ddof=1))) for p in parts if len(p.values) > 1]
    total = sum(n for n, _ in known)
    pooled = math.sqrt(sum(n * variance for n, variance in known) / total) if total else math.nan
    return [float(np.std(part.values, ddof=1)) if len(part.values) > 1 else pooled for part in parts]


def _cells(parts: Sequence[Condition]) -> Cells:
    return tuple(dict.fromkeys(cell for part in parts for cell in part.cells))
