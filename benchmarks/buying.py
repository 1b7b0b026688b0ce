"""How many seeds would decide a claim, what they cost, and which to buy first with a given time."""

import math
from collections.abc import Callable, Mapping, Sequence
from itertools import count, islice
from typing import NamedTuple

import numpy as np

from benchmarks.claims import CONTRADICTED, SUPPORTED, Part
from benchmarks.sequential import ERROR, FIRST, LAST, half_width, seeds_that_decide

Cells = tuple[tuple[str, str], ...]  # (row, column) of one benchmark
Price = Callable[[str, Cells, int], Mapping[str, float]]  # benchmark, cells, seed: unfinished runs' seconds by id


class Need(NamedTuple):
    """What a claim lacks. ``seeds``: how many would decide it, those that are there included, if means and deviations
    stay what they are; None: more than LAST, or nobody can tell. ``cells``: those that need them."""

    claim: str
    benchmark: str
    have: int
    seeds: int | None
    towards: str  # "supported", "contradicted", or "" where the seeds do not tell yet
    cells: Cells


class Purchase(NamedTuple):
    """Seeds of cells that are to be run, and what that is for."""

    claim: str
    benchmark: str
    cells: Cells
    seeds: tuple[int, ...]
    seconds: float


def need_of(claim: str, benchmark: str, parts: Sequence[Part]) -> Need:
    """From the parts as they stand. A part with fewer than two seeds is taken to spread as the others do."""
    have = min((len(part.values) for part in parts), default=0)
    every = _cells(parts)
    spreads = _spreads(parts)
    if not parts or any(not part.values or math.isnan(spread) for part, spread in zip(parts, spreads, strict=True)):
        return Need(claim, benchmark, have, FIRST, "", every)
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


def _decided(part: Part, gap: float, spread: float) -> bool:
    n = min(len(part.values), LAST)
    return n >= FIRST and gap > float(half_width(spread, n, ERROR, part.floor))


def _spreads(parts: Sequence[Part]) -> list[float]:
    """Each part's standard deviation; where it has one seed, the root mean square of the others' (nan without any)."""
    known = [(len(p.values) - 1, float(np.var(p.values, ddof=1))) for p in parts if len(p.values) > 1]
    total = sum(n for n, _ in known)
    pooled = math.sqrt(sum(n * variance for n, variance in known) / total) if total else math.nan
    return [float(np.std(part.values, ddof=1)) if len(part.values) > 1 else pooled for part in parts]


def _cells(parts: Sequence[Part]) -> Cells:
    return tuple(dict.fromkeys(cell for part in parts for cell in part.cells))


def first_seeds(planned: Sequence[int], number: int) -> tuple[int, ...]:
    """So many seeds: the planned ones first, then the smallest others."""
    more = (seed for seed in count() if seed not in planned)
    return (*planned, *islice(more, max(0, number - len(planned))))[:number]


def plan_purchases(
    needs: Sequence[Need], seconds: float, price: Price, planned: Mapping[str, Sequence[int]]
) -> list[Purchase]:
    """What to buy with so many ``seconds``, in order: always the claim whose decision costs least after what has been
    bought before it, as claims share runs. A claim that the time does not suffice for is left out, and so is one
    that no number of seeds would decide. planned: each benchmark's seeds, which are run first."""
    bought: set[str] = set()
    waiting = [need for need in needs if need.seeds is not None]
    chosen: list[Purchase] = []
    while waiting:
        offers = []
        for place, need in enumerate(waiting):
            seeds = first_seeds(planned[need.benchmark], need.seeds or 0)
            costs = [price(need.benchmark, need.cells, seed) for seed in seeds]
            missing = {run: cost for of_seed in costs for run, cost in of_seed.items() if run not in bought}
            unfinished = tuple(seed for seed, of_seed in zip(seeds, costs, strict=True) if of_seed.keys() & missing)
            offers.append((sum(missing.values()), place, missing, unfinished))
        cost, place, missing, unfinished = min(offers, key=lambda offer: offer[:2])
        if cost > seconds:
            break
        need = waiting.pop(place)
        if unfinished:
            chosen.append(Purchase(need.claim, need.benchmark, need.cells, unfinished, cost))
        bought |= set(missing)
        seconds -= cost
    return chosen
