"""Intervals that hold while one looks: by hand, against scipy, and by simulation."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from benchmarks.statistics.intervals import (
    LAST,
    LATE,
    LEVELS,
    counted,
    holm,
    improvement,
    one_sample,
    overall_p_value,
    per_look_alpha,
    rounding_std,
    two_samples,
)
from perf.verdict_rates import DOCS, levels, rates

samples = st.lists(st.floats(-100, 100), min_size=3, max_size=9).filter(lambda values: np.std(values) > 1e-3)


def test_a_paired_interval_by_hand() -> None:
    """1, 2, 3: mean 2, deviation 1, and t with 2 degrees of freedom at the level of a look, 0.01197."""
    t = stats.t.ppf(1 - 0.01197 / 2, 2)
    assert t == pytest.approx(9.058, abs=0.001)
    assert one_sample([1.0, 2.0, 3.0]).estimate() == pytest.approx((2, 2 - t / math.sqrt(3), 2 + t / math.sqrt(3), 3))


@given(samples, samples)
def test_between_methods_it_is_welchs_at_one_percent_a_look(first: list[float], second: list[float]) -> None:
    welch = stats.ttest_ind(first, second, equal_var=False)
    low, high = welch.confidence_interval(0.99)
    found = two_samples(first, second)
    assert found.estimate() == pytest.approx(
        (np.mean(first) - np.mean(second), low, high, min(len(first), len(second))), rel=1e-6, abs=1e-6
    )
    assert float(found.p()) == pytest.approx(float(overall_p_value(welch.pvalue, two=True)), rel=1e-6)
    assert (float(found.p()) < 0.05) == (low > 0 or high < 0)


def test_too_few_or_equal_seeds_have_no_interval() -> None:
    for values in ([1.0], [1.0, 2.0], [2.0, 2.0, 2.0]):
        for found in (one_sample(values), two_samples(values, [5.0, 5.0, 5.0, 5.0])):
            if len(values) < 3 or np.std(values) == 0:
                assert math.isnan(found.estimate().lower)
                assert math.isnan(found.p())
                assert found.n == len(values)
    assert two_samples([], [1.0]).n == one_sample([]).n == 0


def test_equal_counts_have_the_width_of_rounding() -> None:
    """364 images: steps of 100 / 364; a rounded number has the variance step^2 / 12, a difference of two twice that."""
    min_std = rounding_std(364)
    assert min_std == pytest.approx(100 / 364 / math.sqrt(12))
    assert rounding_std(364, 2) == pytest.approx(min_std * math.sqrt(2))
    found = two_samples([90 - 100 / 364] * 3, [90.0] * 3, min_std).estimate()
    half = stats.t.ppf(0.995, 4) * min_std * math.sqrt(2 / 3)
    assert (found.lower, found.upper) == pytest.approx((-100 / 364 - half, -100 / 364 + half))
    assert found.upper > 0  # one image fewer, three times, contradicts nothing
    assert one_sample([1.0, 2.0, 3.0], 0.9).estimate() == one_sample([1.0, 2.0, 3.0]).estimate()
    assert rounding_std(math.nan) == rounding_std(0) == 0


def test_looks_are_at_three_to_ten_seeds_and_of_a_late_rule_at_15_and_20() -> None:
    values = [float(x) for x in range(25)]
    assert one_sample(values).estimate() == one_sample(values[:LAST]).estimate()
    assert [counted(n, LATE) for n in (2, 9, 10, 14, 15, 19, 20, 25)] == [2, 9, 10, 10, 15, 15, 20, 20]
    late = one_sample(values, last=LATE)
    assert late.n == 20
    assert per_look_alpha(0.05, True, LATE) == pytest.approx(0.0094)
    assert float(one_sample(values[:5], last=LATE).half_width()) > float(one_sample(values[:5]).half_width())


@given(st.floats(1e-9, 0.2), st.booleans(), st.sampled_from([LAST, LATE]))
def test_overall_p_value_is_the_inverse_of_per_look_alpha(alpha: float, two: bool, last: int) -> None:
    assert overall_p_value(per_look_alpha(alpha, two, last), two, last) == pytest.approx(alpha, rel=1e-6)
    assert 0 < per_look_alpha(alpha, two, last) <= alpha
    with pytest.raises(ValueError, match="alpha"):
        per_look_alpha(0.3)


def test_holm_by_hand() -> None:
    """0.01 * 4, 0.02 * 3, then 0.03 * 2 = 0.06, and 0.05 * 1, not below the one before. nan is not counted."""
    assert holm([0.03, 0.01, 0.05, 0.02]) == pytest.approx([0.06, 0.04, 0.06, 0.06])
    corrected = holm([0.5, math.nan, 0.9])
    assert (corrected[0], math.isnan(corrected[1]), corrected[2]) == (1.0, True, 1.0)
    assert holm([]) == []


@given(samples, samples)
def test_improvement_is_mann_and_whitneys_share(first: list[float], second: list[float]) -> None:
    share = stats.mannwhitneyu(first, second).statistic / (len(first) * len(second))
    assert improvement(first, second) == pytest.approx(share)
    assert math.isnan(improvement([], second))


def test_verdicts_are_as_often_wrong_as_the_design_allows() -> None:
    """1,500 suites a rate, whose standard error is at most 1.5 points; the bounds are the large simulation's."""
    for rate in rates(1500):
        slack = 3 * 100 * math.sqrt(max(abs(rate.bound), 1) / 100 * (1 - abs(rate.bound) / 100) / 1500)
        if rate.bound > 0:
            assert rate.value <= rate.bound + slack, rate
        elif rate.bound < 0:
            assert rate.value >= -rate.bound - slack, rate


def test_the_levels_are_what_the_simulation_finds() -> None:
    for found, known in zip(levels(100_000, 5, (0, 3, 5)), np.array(LEVELS)[1:], strict=True):
        if found[0] >= 0.01:
            assert found[1] == pytest.approx(known[1], rel=0.08)  # one sample
            assert found[2] >= 0.92 * known[2]  # two: in use is the least over more ratios


@pytest.mark.slow
def test_the_document_shows_the_simulated_rates() -> None:
    """A rate of 2,000 suites lies within three points of one of 20,000."""
    lines = [line.strip("| ").split(" | ") for line in DOCS.read_text().splitlines()]
    shown = {(line[0], line[1]): float(line[2].split()[0]) for line in lines if len(line) == 3 and line[2][0].isdigit()}
    for rate in rates(2000):
        if "gives up" not in rate.what and "suites)" not in rate.case:
            assert rate.value == pytest.approx(shown[rate.case, rate.what], abs=4), rate
