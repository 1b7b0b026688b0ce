"""Allocates a time budget to the seeds that decide claims."""

from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

from benchmarks.statistics.verdict import CellKeys, RequiredSeeds

SeedCost = Callable[[str, CellKeys, int], Mapping[str, float]]  # benchmark, cells, seed: unfinished runs' seconds by id


class Allocation(NamedTuple):
    """Seeds of some cells that are to be run, and the claim that they should decide."""

    claim: str
    benchmark: str
    cells: CellKeys
    seeds: tuple[int, ...]
    seconds: float


def first_seeds(planned: Sequence[int], number: int) -> tuple[int, ...]:
    """Returns the first ``number`` seeds in the order in which they count: the planned ones sorted, then the next
    integers."""
    known = sorted(planned)
    return (*known, *range(known[-1] + 1, known[-1] + 1 + number))[:number]


def allocate_seeds(
    needs: Sequence[RequiredSeeds], seconds: float, seed_cost: SeedCost, planned: Mapping[str, Sequence[int]]
) -> list[Allocation]:
    """Allocates ``seconds`` to claims in order of cost: next is always the claim whose decision costs least, given that
    the seeds allocated before are run (claims share runs). Claims that exceed the budget, or that no number of seeds
    would decide, are omitted. planned: each benchmark's seeds, which are run first."""
    allocated: set[str] = set()
    waiting = [need for need in needs if need.seeds is not None]
    chosen: list[Allocation] = []
    while waiting:
        allocations = []
        for index, need in enumerate(waiting):
            seeds = first_seeds(planned[need.benchmark], need.seeds or 0)
            costs = [seed_cost(need.benchmark, need.cells, seed) for seed in seeds]
            missing = {run: cost for of_seed in costs for run, cost in of_seed.items() if run not in allocated}
            unfinished = tuple(seed for seed, of_seed in zip(seeds, costs, strict=True) if of_seed.keys() & missing)
            allocations.append((sum(missing.values()), index, missing, unfinished))
        cost, index, missing, unfinished = min(allocations, key=lambda allocation: allocation[:2])
        if cost > seconds:
            break
        need = waiting.pop(index)
        if unfinished:
            chosen.append(Allocation(need.claim, need.benchmark, need.cells, unfinished, cost))
        allocated |= set(missing)
        seconds -= cost
    return chosen
