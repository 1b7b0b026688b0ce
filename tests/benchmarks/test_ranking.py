"""Rankings of methods over pairs, against numbers worked out by hand."""

import math

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from benchmarks.ranking import holm, ranking, relative_improvement, win_rates
from tests.benchmarks.made import made_frame

COLUMNS = ("a/b", "c/d", "e/f", "g/h")
HEIGHTS = {"Student": (60, 61, 62, 63), "KD": (62, 62, 64, 62), "SSKD": (63, 64, 65, 66)}


def made() -> pd.DataFrame:
    values = {(row, c): [h - 0.5, h + 0.5] for row, hs in HEIGHTS.items() for c, h in zip(COLUMNS, hs, strict=True)}
    return made_frame("table3", values | {("Teacher", c): [99.0] for c in COLUMNS})


def test_holm_by_hand() -> None:
    """0.01 * 4, 0.02 * 3, then 0.03 * 2 = 0.06, and 0.05 * 1, not below the one before."""
    assert holm([0.03, 0.01, 0.05, 0.02]) == pytest.approx([0.06, 0.04, 0.06, 0.06])
    corrected = holm([0.5, math.nan, 0.9])
    assert corrected[0] == 1.0
    assert math.isnan(corrected[1])
    assert corrected[2] == 1.0
    assert holm([]) == []


def test_win_rates_by_hand() -> None:
    """KD beats the student on three of four pairs, two seeds each: 6 of 8. SSKD wins all 8: 0.025^(1/8) at least."""
    rates = win_rates(made(), "best_top1").set_index(["first", "second"])
    assert "Teacher" not in rates.index.get_level_values(0)
    assert rates.loc[("KD", "Student"), ["rate", "n"]].tolist() == [0.75, 8]
    assert rates.loc[("Student", "KD"), "rate"] == 0.25
    assert rates.loc[("SSKD", "KD"), ["rate", "lower", "upper"]].tolist() == pytest.approx([1.0, 0.025 ** (1 / 8), 1.0])
    turned = win_rates(made(), "best_top1", larger_is_better=False).set_index(["first", "second"])
    assert turned.loc[("KD", "Student"), "rate"] == 0.25


def test_a_tie_is_half_a_win() -> None:
    frame = made_frame("table3", {("A", "x"): [1.0, 2.0, 3.0], ("B", "x"): [1.0, 1.0, 5.0]})
    rates = win_rates(frame, "best_top1").set_index(["first", "second"])
    assert rates.loc[("A", "B"), "rate"] == rates.loc[("B", "A"), "rate"] == 0.5
    assert rates.loc[("A", "B"), "lower"] == pytest.approx(stats.binomtest(1, 3).proportion_ci(method="exact").low)
    assert rates.loc[("A", "B"), "upper"] == pytest.approx(stats.binomtest(2, 3).proportion_ci(method="exact").high)


def test_mean_ranks_and_friedman_by_hand() -> None:
    """Ranks SSKD 1, 1, 1, 1; KD 2, 2, 2, 3; student 3, 3, 3, 2. Friedman: 12 / (4 * 3 * 4) * (16 + 81 + 121) - 48."""
    found = ranking(made(), "best_top1")
    assert found is not None
    assert found.ranks == {"SSKD": 1.0, "KD": 2.25, "Student": 2.75}
    assert found.blocks == ("column", 4)
    statistic = 12 / 48 * (4**2 + 9**2 + 11**2) - 3 * 4 * 4
    assert found.friedman == pytest.approx(stats.chi2.sf(statistic, 2))
    pairwise = found.pairwise.set_index(["first", "second"])
    assert pairwise.loc[("Student", "SSKD"), "p"] == 0.125  # all four signs alike: 2 / 2^4
    assert pairwise.loc[("Student", "SSKD"), "p_holm"] == pytest.approx(0.375)


def test_of_one_column_seeds_are_ranked() -> None:
    frame = made_frame("comparison", {("A", "x"): [1.0, 2.0, 3.0], ("B", "x"): [2.0, 1.0, 4.0], ("C", "x"): [9.0]})
    found = ranking(frame, "best_top1")
    assert found is not None
    assert found.blocks == ("seed", 3)
    assert found.ranks == pytest.approx({"B": 4 / 3, "A": 5 / 3})  # C has one seed only
    assert math.isnan(found.friedman)


def test_nothing_to_rank() -> None:
    assert ranking(made_frame("comparison", {("A", "x"): [1.0]}), "best_top1") is None
    equal = ranking(made_frame("comparison", {("A", "x"): [1.0, 2.0], ("B", "x"): [1.0, 2.0]}), "best_top1")
    assert equal is not None
    assert equal.pairwise["p"].tolist() == [1.0]


def test_average_relative_improvement_by_hand() -> None:
    """(63-62)/(62-60), (64-62)/(62-61), (65-64)/(64-62): 50, 200 and 50 %; on g/h KD is below the student."""
    found = relative_improvement(made(), "best_top1", "SSKD")
    assert found == pytest.approx((100.0, 3, 1))
    assert np.isnan(relative_improvement(made(), "best_top1", "CRD").value)
