"""Tests the report on the controls, with generated results."""

import pandas as pd
import pytest

from benchmarks.statistics.controls import control_lines, controls, false_calls, permutation_rate
from benchmarks.statistics.verdict import Condition, Sample
from tests.benchmarks.made import made_frame

COLUMN = "resnet56/resnet20"
KD, AGAIN, WRONG = [70.0, 70.3, 69.9], [70.1, 70.0, 70.2], [75.0, 75.3, 74.8]


def made(benchmark: str = "comparison", **rows: list[float]) -> pd.DataFrame:
    return made_frame(benchmark, {(row.replace("_", " "), COLUMN): reached for row, reached in rows.items()})


def test_a_null_called_a_difference_is_counted_and_kd_stands_against_kd_shuffled() -> None:
    frame = made(KD=KD, KD_again=WRONG, KD_shuffled=[62.0, 63.0])
    found = controls(frame, "last")
    null, shuffled = found
    assert (null.kind, null.name, null.seeds, null.verdict) == ("aa", f"KD again - KD, {COLUMN}", 3, "supported")
    assert null.effect == pytest.approx(14.9 / 3)
    assert null.lower < null.effect < null.upper
    assert (shuffled.kind, shuffled.seeds, shuffled.permuted) == ("shuffled", 2, None)
    assert false_calls(found) == (1, 1)
    lines = control_lines(found)
    assert "1 of 1 comparison called a difference" in lines[1]
    assert f"KD - KD shuffled, {COLUMN}: +" in lines[-1]
    right = controls(made(KD=KD, KD_again=AGAIN), "last")
    assert false_calls(right) == (0, 1)
    # what these seeds could have called: half of the interval's width
    assert f"below {(right[0].upper - right[0].lower) / 2:.1f} points" in control_lines(right)[1]
    assert control_lines(controls(made(KD=KD), "last")) == controls(pd.DataFrame(), "last") == []


def test_shared_runs_are_told_once() -> None:
    first, second = made(KD=KD, KD_again=AGAIN), made("table3", KD=KD, KD_again=AGAIN)
    assert controls(first, "last") == controls(pd.concat([first, second]), "last")


def test_dealing_by_hand() -> None:
    """0, 0, 0 and 1, 1, 1: of the 20 ways to deal six runs into two groups, one has all differences at +1."""
    part = Condition("", Sample((), [1.0] * 3), Sample((), [0.0] * 3), min_std=0.1)
    assert permutation_rate(part) == pytest.approx(1 / 20, abs=0.02)
    assert permutation_rate(part._replace(min_std=0.5)) == 0.0  # half the width is 3.8 deviations of one
    assert permutation_rate(part._replace(first=Sample((), [1.0, 2.0]))) is None
