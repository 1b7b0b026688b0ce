"""The probability that more seeds decide a claim, and which are allocated first."""

import math
from collections.abc import Mapping

import numpy as np
import pytest

from benchmarks.statistics.intervals import LATE
from benchmarks.statistics.seed_allocation import Allocation, SeedCost, allocate_seeds, first_seeds
from benchmarks.statistics.verdict import CellKeys, Condition, RequiredSeeds, Sample, required_seeds

KD, AT = (("KD", "25%"),), (("AT", "25%"),)
SSKD = Sample((("SSKD", "25%"),), [0.0, 0.4, -0.4])


def above(by: float, cells: CellKeys, seeds: int = 3, **more: float) -> Condition:
    """SSKD above a rival by so much, whose seeds spread as its own do."""
    rival = Sample(cells, [x - by for x in (-0.4, 0.0, 0.4)][:seeds])
    return Condition(str(by), SSKD, rival, **more)  # type: ignore[arg-type]


def test_the_probability_grows_with_the_effect_and_only_open_parts_get_seeds() -> None:
    chances = [required_seeds("C8", "fig4a", [above(by, KD)]).chance for by in (0.0, 0.5, 1.0, 2.0)]
    assert chances == sorted(chances)
    assert chances[0] < 0.35
    assert chances[-1] > 0.95
    both = required_seeds("C8", "fig4a", [above(9.0, KD), above(1.0, AT)])
    assert (both.claim, both.benchmark, both.have, both.cells) == ("C8", "fig4a", 3, SSKD.cells + AT)
    assert both.seeds is not None
    assert 4 <= both.seeds <= 10


def test_seeds_of_parts_below_their_bound_suffice_to_contradict() -> None:
    need = required_seeds("C8", "fig4a", [above(-1.5, KD), above(0.5, AT)])
    assert need.cells == SSKD.cells + KD
    assert need.chance > 0.5


def test_what_seeds_do_not_tell() -> None:
    assert (required_seeds("C8", "fig4a", []).seeds, required_seeds("C8", "fig4a", []).cells) == (3, ())
    one = required_seeds("C8", "fig4a", [Condition("a", SSKD._replace(values=[1.0]), Sample(KD, [0.0]))])
    assert (one.have, one.seeds, math.isnan(one.chance)) == (1, 3, True)
    borrowed = required_seeds(
        "C8", "fig4a", [above(9.0, KD), above(2.0, AT, seeds=1)]
    )  # its spread is the other samples'
    assert (borrowed.have, borrowed.chance > 0.9) == (1, True)


def test_it_gives_up_below_a_tenth_but_not_before_three_seeds() -> None:
    wide = Sample(KD, [5.0, -5.0, 0.1])
    hopeless = required_seeds("C8", "fig4a", [Condition("a", Sample(SSKD.cells, list(np.linspace(-1, 1, 9))), wide)])
    assert (hopeless.seeds, hopeless.chance < 0.1) == (None, True)
    early = required_seeds("C8", "fig4a", [Condition("a", Sample(SSKD.cells, [0.1, 0.0]), Sample(KD, [9.0, -9.0]))])
    assert early.seeds is not None
    late = required_seeds("C8", "fig4a", [above(0.8, KD, last=LATE)])
    assert (late.last, late.chance > required_seeds("C8", "fig4a", [above(0.8, KD)]).chance) == (LATE, True)


def test_seeds_are_bought_in_the_order_in_which_they_count() -> None:
    assert first_seeds([0, 1], 4) == (0, 1, 2, 3)
    assert first_seeds([7, 1], 4) == (1, 7, 8, 9)
    assert first_seeds([0, 1, 2], 2) == (0, 1)


def seed_costs(finished: int) -> SeedCost:
    """A run of SSKD costs 4, of others 1; all seeds below ``finished`` are there. Benchmarks share SSKD's runs."""

    def seed_cost(benchmark: str, cells: CellKeys, seed: int) -> Mapping[str, float]:
        if seed < finished:
            return {}
        return {f"{row if row == 'SSKD' else benchmark + row}-{seed}": 4 if row == "SSKD" else 1 for row, _ in cells}

    return seed_cost


PLANNED = {"fig4a": (0, 1), "fig4b": (0, 1)}
CELLS = SSKD.cells + KD


def test_the_cheapest_decision_is_bought_first_and_shared_runs_once() -> None:
    """C8 needs seeds 2, 3, 4: 15. C9 needs 2 and 3: 10, and then C8 costs 7, of which its own KD is 3."""
    needs = [RequiredSeeds("C8", "fig4a", 2, 5, 0.5, CELLS), RequiredSeeds("C9", "fig4b", 2, 4, 0.5, CELLS)]
    allocated = allocate_seeds(needs, 100, seed_costs(2), PLANNED)
    assert allocated == [Allocation("C9", "fig4b", CELLS, (2, 3), 10), Allocation("C8", "fig4a", CELLS, (2, 3, 4), 7)]
    assert [p.claim for p in allocate_seeds(needs, 16, seed_costs(2), PLANNED)] == ["C9"]
    assert allocate_seeds(needs, 9, seed_costs(2), PLANNED) == []


@pytest.mark.parametrize("seeds", [None, 2])
def test_what_is_hopeless_or_there_is_not_bought(seeds: int | None) -> None:
    assert allocate_seeds([RequiredSeeds("C8", "fig4a", 2, seeds, 0.0, CELLS)], 100, seed_costs(2), PLANNED) == []
