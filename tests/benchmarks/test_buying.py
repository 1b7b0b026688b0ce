"""Seeds that would decide a claim, and which are bought first."""

from collections.abc import Mapping

import pytest

from benchmarks.statistics.seed_allocation import Price, Purchase, first_seeds, plan_purchases
from benchmarks.statistics.verdict import CONTRADICTED, SUPPORTED, Cells, Condition, Need, need_of

KD, AT = (("SSKD", "25%"), ("KD", "25%")), (("SSKD", "25%"), ("AT", "25%"))


def test_needed_seeds_by_hand() -> None:
    """Deviation 1. A gap of 3 is decided at 4 seeds (2.74 deviations), one of 2 at 5 (1.95): the claim at 5."""
    wide, narrow = Condition("a", [2.0, 3.0, 4.0], cells=KD), Condition("b", [1.0, 2.0, 3.0], cells=AT)
    need = need_of("C8", "fig4a", [wide, narrow])
    assert need == Need("C8", "fig4a", 3, 5, SUPPORTED, (("SSKD", "25%"), ("KD", "25%"), ("AT", "25%")))


def test_only_what_is_not_decided_needs_seeds() -> None:
    sure, unsure = Condition("a", [9.0, 10.0, 11.0], cells=KD), Condition("b", [1.0, 2.0, 3.0], cells=AT)
    assert need_of("C8", "fig4a", [sure, unsure]).cells == AT
    assert need_of("C8", "fig4a", [sure]) == Need("C8", "fig4a", 3, 3, SUPPORTED, ())


def test_a_part_below_its_bound_needs_seeds_alone() -> None:
    """It suffices to contradict, at half the error as there are two parts: 5 seeds for 2.5 deviations."""
    below, above = Condition("a", [-1.5, -2.5, -3.5], cells=KD), Condition("b", [1.0, 2.0, 3.0], cells=AT)
    assert need_of("C8", "fig4a", [below, above]) == Need("C8", "fig4a", 3, 5, CONTRADICTED, KD)


def test_what_seeds_do_not_tell() -> None:
    assert need_of("C8", "fig4a", []).seeds == 3
    assert need_of("C8", "fig4a", [Condition("a", [1.0], cells=KD)])[2:5] == (1, 3, "")
    borrowed = [Condition("a", [2.0], cells=KD), Condition("b", [1.0, 2.0, 3.0], cells=AT)]
    assert need_of("C8", "fig4a", borrowed)[2:5] == (1, 5, SUPPORTED)  # one seed, and the spread of the other part
    hopeless = need_of("C8", "fig4a", [Condition("a", [0.1, 1.0, -1.0], cells=KD)])
    assert (hopeless.seeds, hopeless.towards) == (None, SUPPORTED)
    early = need_of("C8", "fig4a", [Condition("a", [0.1, -1.0], cells=KD)])
    assert (early.seeds, early.towards) == (3, "")  # two seeds are too few to give up
    assert need_of("C8", "fig4a", [Condition("a", [-0.3, -0.3, -0.3], cells=KD, floor=1.0)]).seeds is None


def test_first_seeds_are_the_planned_ones() -> None:
    assert first_seeds([0, 1], 4) == (0, 1, 2, 3)
    assert first_seeds([7, 1], 4) == (7, 1, 0, 2)
    assert first_seeds([0, 1, 2], 2) == (0, 1)


def prices(finished: int) -> Price:
    """A run of SSKD costs 4, of others 1; all seeds below ``finished`` are there. Benchmarks share SSKD's runs."""

    def price(benchmark: str, cells: Cells, seed: int) -> Mapping[str, float]:
        if seed < finished:
            return {}
        return {f"{row if row == 'SSKD' else benchmark + row}-{seed}": 4 if row == "SSKD" else 1 for row, _ in cells}

    return price


PLANNED = {"fig4a": (0, 1), "fig4b": (0, 1)}


def test_the_cheapest_decision_is_bought_first_and_shared_runs_once() -> None:
    """C8 needs seeds 2, 3, 4: 15. C9 needs 2 and 3: 10, and then C8 costs 7, of which its own KD is 3."""
    needs = [Need("C8", "fig4a", 2, 5, SUPPORTED, KD), Need("C9", "fig4b", 2, 4, SUPPORTED, KD)]
    bought = plan_purchases(needs, 100, prices(2), PLANNED)
    assert bought == [Purchase("C9", "fig4b", KD, (2, 3), 10), Purchase("C8", "fig4a", KD, (2, 3, 4), 7)]
    assert [p.claim for p in plan_purchases(needs, 16, prices(2), PLANNED)] == ["C9"]
    assert plan_purchases(needs, 9, prices(2), PLANNED) == []


@pytest.mark.parametrize("seeds", [None, 2])
def test_what_is_hopeless_or_there_is_not_bought(seeds: int | None) -> None:
    assert plan_purchases([Need("C8", "fig4a", 2, seeds, SUPPORTED, KD)], 100, prices(2), PLANNED) == []
