"""Rankings of methods over pairs, against numbers worked out by hand."""

import math

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from benchmarks.statistics.comparison import holm, pairwise, win_interval
from benchmarks.statistics.intervals import count_floor, sequential_p
from benchmarks.statistics.ranking import ranking, ranking_lines, relative_improvement
from benchmarks.tables.benchmark import BENCHMARKS, TOP1
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
    pairs = pairwise(made(), BENCHMARKS["table3"], TOP1[0]).set_index(["row", "other"])
    assert pairs.loc[("KD", "Student"), ["wins", "comparisons"]].tolist() == [6, 8]
    assert pairs.loc[("SSKD", "KD"), ["wins_lower", "wins_upper"]].tolist() == pytest.approx([0.025 ** (1 / 8), 1.0])
    assert pairs.loc[("KD", "SSKD"), ["wins_lower", "wins_upper"]].tolist() == pytest.approx([0, 1 - 0.025 ** (1 / 8)])


def test_half_a_win_counts_against_either_end() -> None:
    one, two = (stats.binomtest(wins, 3).proportion_ci(method="exact") for wins in (1, 2))
    assert win_interval(1.5, 3) == pytest.approx((one.low, two.high))


def test_pairs_are_corrected_once_each() -> None:
    """Three pairs of three rows: the smallest p is tripled, not taken six times."""
    levels = {"A": [0.0, 0.1, 0.2], "B": [1.0, 1.2, 1.4], "C": [9.0, 9.3, 9.6]}
    frame = made_frame("comparison", {(row, "x"): values for row, values in levels.items()})
    pairs = pairwise(frame, BENCHMARKS["comparison"], TOP1[0]).set_index(["row", "other"])
    own = {}
    for a, b in (("A", "B"), ("A", "C"), ("B", "C")):
        gaps = [x - y for x, y in zip(levels[a], levels[b], strict=True)]
        own[a, b] = sequential_p(gaps, floor=count_floor(10_000))
    expected = dict(zip(own, holm(list(own.values())), strict=True))
    for (a, b), p in expected.items():
        assert pairs.loc[(a, b), "p_holm"] == pairs.loc[(b, a), "p_holm"] == pytest.approx(p)


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
    three = ranking(made_frame("comparison", {(row, "x"): [1.0, 2.0] for row in "ABC"}), "best_top1")
    assert three is not None
    assert (three.friedman, set(three.ranks.values())) == (1.0, {2.0})


def test_average_relative_improvement_by_hand() -> None:
    """(63-62)/(62-60), (64-62)/(62-61), (65-64)/(64-62): 50, 200 and 50 %; on g/h KD is below the student."""
    found = relative_improvement(made(), "best_top1", "SSKD")
    assert found == pytest.approx((100.0, 3, 1))
    assert np.isnan(relative_improvement(made(), "best_top1", "CRD").value)


def test_in_words() -> None:
    first, second = ranking_lines(made(), "best_top1")
    assert first.startswith(
        "Mean ranks over 4 columns: SSKD 1.0, KD 2.2, Student 2.8. All equal: p = 0.039 (Friedman)."
    )
    assert "Holm): none." in first  # four pairs cannot tell two methods apart: 2 / 2^4
    assert second.endswith("mean over columns; 1 left out, where KD does not exceed the student: SSKD +100 %.")
    assert ranking_lines(made_frame("comparison", {("A", "x"): [1.0, 2.0], ("B", "x"): [2.0, 1.0]}), "best_top1") == []
