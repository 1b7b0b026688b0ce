"""Intervals that hold while one looks: by hand, and by simulation."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from benchmarks.statistics.intervals import (
    FIRST,
    LAST,
    count_floor,
    half_width,
    nominal,
    seeds_that_decide,
    sequential_interval,
    sequential_p,
    spent,
)
from benchmarks.statistics.simulate import DOCS, counted, judge_suites, levels, rates, selected, t_half_width

RULES = ("best on test", "last", "held-out")


def test_an_interval_by_hand() -> None:
    """1, 2, 3: mean 2, deviation 1, and t with 2 degrees of freedom at the level of a look, 0.01197."""
    estimate = sequential_interval([1.0, 2.0, 3.0])
    t = stats.t.ppf(1 - 0.01197 / 2, 2)
    assert t == pytest.approx(9.058, abs=0.001)
    assert (estimate.mean, estimate.n) == (2.0, 3)
    assert (estimate.lower, estimate.upper) == pytest.approx((2 - t / math.sqrt(3), 2 + t / math.sqrt(3)))


def test_too_few_or_equal_seeds_have_no_interval() -> None:
    for values in ([1.0], [1.0, 2.0], [2.0, 2.0, 2.0]):
        estimate = sequential_interval(values)
        assert math.isnan(estimate.lower)
        assert estimate.n == len(values)
        assert math.isnan(sequential_p(values))
    assert sequential_interval([]).n == 0


def test_equal_counts_have_the_width_of_rounding() -> None:
    """364 images: steps of 100 / 364; a difference of two rounded numbers has the variance step^2 / 6."""
    floor = count_floor(364)
    assert floor == pytest.approx(100 / 364 / math.sqrt(6))
    estimate = sequential_interval([-0.3, -0.3, -0.3], floor=floor)
    assert estimate.upper == pytest.approx(-0.3 + 9.058 * floor / math.sqrt(3), abs=0.001)
    assert estimate.upper > 0  # one image fewer, three times, contradicts nothing
    assert sequential_interval([1.0, 2.0, 3.0], floor=0.9) == sequential_interval([1.0, 2.0, 3.0])
    assert count_floor(math.nan) == count_floor(0) == 0


def test_looks_end_with_the_tenth_seed() -> None:
    values = [float(x) for x in range(12)]
    assert sequential_interval(values) == sequential_interval(values[:LAST])
    assert sequential_interval(values).n == LAST


@given(st.floats(1e-6, 0.2))
def test_spent_is_the_inverse_of_nominal(error: float) -> None:
    assert spent(nominal(error)) == pytest.approx(error, rel=1e-6)
    assert error / 8 <= nominal(error) <= error


def test_p_is_below_5_percent_where_the_interval_leaves_zero_out() -> None:
    values = [1.0, 1.3, 0.9, 1.1]
    for level in (0.9, 0.95, 0.99):
        edge = sequential_interval(values, level).lower
        assert sequential_p(values, bound=edge) == pytest.approx(1 - level, rel=0.01)
    assert sequential_p([0.0, 1.0, -1.0]) == 1.0


def test_seeds_that_decide_by_hand() -> None:
    """The width falls with the seeds: at 3 it is 9.06 / sqrt(3) = 5.2 deviations, at 4 5.53 / 2 = 2.8."""
    assert seeds_that_decide(5.3, 1.0) == FIRST
    assert seeds_that_decide(-5.1, 1.0) == 4
    assert seeds_that_decide(2.7, 1.0) == 5
    assert seeds_that_decide(0.1, 1.0) is None
    assert float(half_width(1.0, 2)) == math.inf


def test_a_true_null_is_supported_in_at_most_5_percent_of_2000_suites_whenever_one_looks() -> None:
    rng = np.random.default_rng(1)
    nulls = rng.normal(size=(2000, 1, LAST)) - rng.normal(size=(2000, 1, LAST))
    calls = judge_suites(nulls)
    assert calls.supported.mean() <= 0.05
    assert calls.contradicted.mean() <= 0.05
    assert calls.supported.mean() > 0.01  # the error is spent
    naive = judge_suites(nulls, interval=t_half_width)
    assert naive.supported.mean() > 0.06  # what looking does to an interval for one look
    many = rng.normal(size=(2000, 1, LAST)) - rng.normal(size=(2000, 16, LAST))
    assert judge_suites(many).contradicted.mean() <= 0.05


def test_counts_need_the_floor() -> None:
    values = counted(np.random.default_rng(2), 2000, 16, spread=0.75)
    assert judge_suites(values, count_floor(364)).contradicted.mean() <= 0.05
    assert judge_suites(values).contradicted.mean() > 0.1


def test_the_best_epoch_on_test_images_favours_a_noisy_curve() -> None:
    rng = np.random.default_rng(3)
    found = {rule: judge_suites(selected(rng, 500, rule)).supported.mean() for rule in RULES}
    assert found["best on test"] > 0.2
    assert max(found["last"], found["held-out"]) < 0.06


def test_the_nominal_levels_are_what_the_simulation_finds() -> None:
    for error, level in levels(200_000, seed=5):
        if error >= 0.01:
            assert level == pytest.approx(nominal(error), rel=0.06)


@pytest.mark.slow
def test_the_document_shows_the_simulated_rates() -> None:
    """A rate of 2,000 suites moves by up to three points with NumPy's random numbers; with the same ones not at all."""
    shown = {}
    for line in DOCS.read_text().splitlines():
        cells = [cell.strip() for cell in line.strip("| ").split(" | ")]
        if len(cells) == 3:
            shown[cells[0], cells[1]] = cells[2].removesuffix(" %")
    for rate in rates():
        assert float(shown[rate.case, rate.what]) == pytest.approx(rate.value, abs=3)
