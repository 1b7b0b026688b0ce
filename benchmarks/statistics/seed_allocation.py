"""Which seeds to buy first with a given time."""

from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

from benchmarks.statistics.verdict import Cells, Need

Price = Callable[[str, Cells, int], Mapping[str, float]]  # benchmark, cells, seed: unfinished runs' seconds by id


class Purchase(NamedTuple):
    """Seeds of cells that are to be run, and what that is for."""

    claim: str
    benchmark: str
    cells: Cells
    seeds: tuple[int, ...]
    seconds: float


def first_seeds(planned: Sequence[int], number: int) -> tuple[int, ...]:
    """So many seeds in the order in which they count: the planned ones by their numbers, then the next larger ones."""
    known = sorted(planned)
    return (*known, *range(known[-1] + 1, known[-1] + 1 + number))[:number]


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
