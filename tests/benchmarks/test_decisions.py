"""Verdicts from values per seed, the probability that more seeds decide, and which of these are allocated first."""

import math
from collections.abc import Mapping

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from benchmarks.statistics.intervals import LATE
from benchmarks.statistics.judging import judge_comparisons
from benchmarks.statistics.seed_allocation import Allocation, SeedCost, allocate_seeds, first_seeds
from benchmarks.statistics.verdict import (
    CONTRADICTED,
    EQUIVALENT,
    SUPPORTED,
    UNDECIDED,
    CellKeys,
    Condition,
    RequiredSeeds,
    Sample,
    decide,
    rank_p,
    required_seeds,
)

NEAR_ZERO = [0.1, -0.1, 0.0, 0.05]


def part(values: list[float], name: str = "SSKD - KD", **more: float) -> Condition:
    return Condition(name, Sample((), values), **more)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("values", "more", "verdict"),
    [
        ([1.0] * 3, {}, UNDECIDED),  # equal seeds have no interval
        ([1.0] * 3, {"min_std": 0.1}, SUPPORTED),
        ([-1.0] * 3, {"min_std": 0.1}, CONTRADICTED),
        ([1.0] * 3, {"min_std": 0.3}, UNDECIDED),  # 3 seeds: 5.2 deviations
        ([1.0] * 2, {"min_std": 0.1}, UNDECIDED),
        ([5.0, -4.0, 1.0], {}, UNDECIDED),
        (NEAR_ZERO, {"margin": 0.5}, EQUIVALENT),
        (NEAR_ZERO, {"margin": 0.1}, UNDECIDED),
        ([0.2, 0.21, 0.19, 0.2], {"margin": 0.5}, SUPPORTED),  # small, and surely above
        ([0.2, 0.21, 0.19, 0.2], {"bound": 0.5}, CONTRADICTED),
        ([0.2, 0.4, 0.0], {"ranks": True}, UNDECIDED),
        ([1.0, 1.0, 1.0], {"ranks": True}, SUPPORTED),
        ([1.0, 1.0], {"ranks": True}, UNDECIDED),
    ],
)
def test_the_verdict_on_one_part(values: list[float], more: dict[str, float], verdict: str) -> None:
    assert decide([part(values, **more)])[0] == verdict


def test_parts_are_equivalent_only_together() -> None:
    both = [part(NEAR_ZERO, margin=0.5), part([2.0, -2.0, 1.0], margin=0.5)]
    assert decide(both)[0] == UNDECIDED
    assert [judged.verdict for judged in judge_comparisons(both, UNDECIDED)] == [EQUIVALENT, UNDECIDED]


def test_void_comparisons_count_in_no_correction() -> None:
    low, middle, high = (Sample((), values) for values in ([1.0, 1.1, 1.2], [1.1, 1.0, 1.3], [9.0, 9.1, 9.2]))
    parts = [Condition("void", middle, low, void="it cannot be tested"), Condition("sure", high, low)]
    assert [judged.verdict for judged in judge_comparisons(parts, UNDECIDED)] == ["void", "supported"]
    assert decide(parts)[0] == SUPPORTED
    assert decide(parts[:1])[0] == UNDECIDED


def test_rank_correlations_have_an_exact_test() -> None:
    """Of 24 orders one is perfect, three exchange two neighbours, and nine have 0.4 or more; three perfect seeds have
    p = 24^-3."""
    assert float(rank_p(np.array([1.0]))) == pytest.approx(1 / 24)
    assert float(rank_p(np.array([0.8]))) == pytest.approx(4 / 24)
    assert float(rank_p(np.array([0.4]))) == pytest.approx(9 / 24)
    assert float(rank_p(np.array([1.0, 1.0, 1.0]))) == pytest.approx(24.0**-3)
    assert float(rank_p(np.array([-1.0, -1.0]))) == pytest.approx(1.0)
    assert math.isnan(part([1.0, 1.0, 1.0], ranks=True).interval().lower)


@given(st.lists(st.lists(st.integers(-1000, 1000).map(lambda x: x / 100), max_size=5), min_size=1, max_size=6))
@settings(max_examples=100, deadline=None)
def test_decisions_are_consistent(values: list[list[float]]) -> None:
    parts = [part(v, str(i)) for i, v in enumerate(values)]
    verdict, why = decide(parts)
    assert why
    turned, _ = decide([part([-x for x in v]) for v in values])
    if verdict == SUPPORTED:  # its opposite cannot be supported too, every part alone is, and higher values stay so
        assert turned != SUPPORTED
        assert all(decide([one])[0] == SUPPORTED for one in parts)
        assert all(sum(v) > 0 for v in values)
        assert decide([part([x + 1 for x in v]) for v in values])[0] == SUPPORTED
    if any(len(v) < 3 for v in values):
        assert verdict != SUPPORTED
    if all(len(v) < 3 for v in values):
        assert verdict == UNDECIDED
    if verdict == CONTRADICTED:
        assert any(sum(v) < 0 for v in values)
    judged = judge_comparisons(parts, verdict)
    found = {one.verdict for one in judged}
    assert (verdict == SUPPORTED) == (found == {SUPPORTED}) or SUPPORTED in found
    assert (verdict == CONTRADICTED) == (CONTRADICTED in found)
    assert all(one.verdict in (one.alone, UNDECIDED) for one in judged)


def test_parts_that_are_all_chance_are_hardly_ever_decided() -> None:
    """150 claims of twelve parts without a difference, five seeds: in at most one of twenty any part is called decided,
    though by their own intervals more have one."""
    random = np.random.default_rng(0)
    decided = alone = 0
    for _ in range(150):
        judged = judge_comparisons([part(list(random.normal(size=5)), min_std=1e-6) for _ in range(12)], UNDECIDED)
        decided += any(one.verdict != UNDECIDED for one in judged)
        alone += any(one.alone != UNDECIDED for one in judged)
    assert decided <= 8 < alone


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
