"""Intervals and paired differences."""

import math

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from benchmarks.statistics.comparison import AVERAGE, differences, is_sure, t_interval
from benchmarks.statistics.intervals import sequential_p
from benchmarks.tables.benchmark import BENCHMARKS
from tests.benchmarks.made import made_frame

numbers = st.floats(-100, 100, allow_nan=False)


@given(st.lists(numbers, min_size=2, max_size=8))
def test_t_interval_is_scipys(values: list[float]) -> None:
    estimate = t_interval(values)
    assert estimate.n == len(values)
    spread = float(np.std(values, ddof=1))
    if spread > 1e-6:
        low, high = stats.t.interval(0.95, len(values) - 1, np.mean(values), spread / math.sqrt(len(values)))
        assert (estimate.lower, estimate.upper) == pytest.approx((low, high))


def test_one_seed_has_no_interval() -> None:
    estimate = t_interval([3.0])
    assert estimate.mean == 3.0
    assert math.isnan(estimate.lower)
    assert math.isnan(estimate.upper)
    assert t_interval([]).n == 0


def test_differences_are_paired_by_seed_and_averaged_over_pairs() -> None:
    """A spread that both methods share cancels; a seed that only one has does not count."""
    frame = made_frame(
        "table3",
        {
            ("Teacher", "a/b"): [80.0],
            ("KD", "a/b"): [10.0, 20.0, 30.0, 99.0],
            ("KD", "c/d"): [1.0, 2.0, 3.0],
            ("SSKD", "a/b"): [11.0, 21.0, 31.0],
            ("SSKD", "c/d"): [4.0, 5.0, 6.0],
        },
    )
    benchmark = BENCHMARKS["table3"]
    gaps = differences(frame, benchmark, benchmark.measures[0]).set_index(["column", "row"])
    assert set(gaps.index) == {("a/b", "KD"), ("c/d", "KD"), (AVERAGE, "KD")}
    assert gaps.loc[("a/b", "KD"), ["difference", "lower", "upper", "seeds"]].tolist() == [1.0, 1.0, 1.0, 3]
    assert gaps.loc[(AVERAGE, "KD"), "difference"] == 2.0


def test_a_reference_column_is_compared_across_columns() -> None:
    frame = made_frame("table1", {("SSKD", "50%"): [1.0, 2.0], ("SSKD", "75%"): [3.0, 5.0]})
    benchmark = BENCHMARKS["table1"]
    gaps = differences(frame, benchmark, benchmark.measures[0])
    assert gaps[["row", "difference"]].to_numpy().tolist() == [["50%", 2.5]]


def test_nothing_finished_gives_no_differences() -> None:
    frame = pd.DataFrame({"row": ["KD", "SSKD"], "column": ["a", "a"], "seed": [0, 0], "best_top1": [None, None]})
    benchmark = BENCHMARKS["table3"]
    assert differences(frame, benchmark, benchmark.measures[0]).empty


def test_differences_are_marked_after_holms_correction() -> None:
    """Two rivals on one pair: gaps 2, 3, 4 and 20, 30, 40 have one p value; each is doubled, the larger not below."""
    rivals = {"KD": [70.0, 69.0, 68.0], "AT": [52.0, 42.0, 32.0]}
    frame = made_frame("table3", {(r, "a/b"): v for r, v in (rivals | {"SSKD": [72.0, 72.0, 72.0]}).items()})
    benchmark = BENCHMARKS["table3"]
    gaps = differences(frame, benchmark, benchmark.measures[0]).set_index("row")
    alone = sequential_p([2.0, 3.0, 4.0])
    assert sequential_p([20.0, 30.0, 40.0]) == pytest.approx(alone)
    assert gaps["p_holm"].tolist() == pytest.approx([2 * alone] * 2)
    few = differences(frame[frame["seed"] < 2], benchmark, benchmark.measures[0])
    assert few["p_holm"].isna().all()
    assert not any(map(is_sure, few["p_holm"]))
