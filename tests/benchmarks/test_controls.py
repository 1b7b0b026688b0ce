"""What is said of the controls, from made results."""

import pandas as pd
import pytest

from benchmarks.statistics.controls import control_lines, controls, dealt_rate, false_calls
from tests.benchmarks.made import made_frame

COLUMN = "resnet56/resnet20"


def lines_of(**rows: list[float]) -> list[str]:
    values = {(row.replace("_", " "), COLUMN): reached for row, reached in rows.items()}
    return control_lines(controls(made_frame("comparison", values), "last"))


def test_a_null_called_a_difference_is_counted() -> None:
    lines = lines_of(KD=[70.0, 70.3, 69.9], KD_again=[70.1, 70.0, 70.2])
    assert "KD again - KD, resnet56/resnet20: +0.03" in lines[0]
    assert lines[0].endswith("3 seeds, undecided.")
    assert lines[1] == "KD against itself: 0 of 1 comparison called a difference."
    wrong = lines_of(KD=[70.0, 70.3, 69.9], KD_again=[75.0, 75.3, 74.9])
    assert wrong[1] == "KD against itself: 1 of 1 comparison called a difference."


def test_the_placebo_stands_against_the_student_alone() -> None:
    (line,) = lines_of(Student=[60.0, 61.0, 60.5], Placebo=[62.0, 63.0, 62.6])
    assert "Placebo - Student, resnet56/resnet20: +2.03" in line
    assert lines_of(KD=[70.0]) == []


def test_shared_runs_are_told_once() -> None:
    values = {("KD", COLUMN): [70.0, 70.3, 69.9], ("KD again", COLUMN): [70.1, 70.0, 70.2]}
    first, second = made_frame("comparison", values), made_frame("table3", values)
    assert controls(first, "last") == controls(pd.concat([first, second]), "last")


def test_dealing_by_hand() -> None:
    """0, 0, 0 and 1, 1, 1: of the 20 ways to deal six runs into two groups, one has all differences at +1, which the
    floor of 0.1 calls supported."""
    zeros, ones = dict.fromkeys(range(3), 0.0), dict.fromkeys(range(3), 1.0)
    assert dealt_rate(ones, zeros, floor=0.1) == pytest.approx(1 / 20, abs=0.02)
    assert dealt_rate(ones, zeros, floor=0.3) == 0.0  # 5.2 deviations are more than 1
    assert dealt_rate({0: 1.0, 1: 2.0}, zeros, floor=0.1) is None


def test_controls_as_numbers() -> None:
    values = {("KD", COLUMN): [70.0, 70.3, 69.9], ("KD again", COLUMN): [75.0, 75.3, 74.8]}
    values |= {("Student", COLUMN): [60.0, 61.0, 60.5], ("Placebo", COLUMN): [62.0, 63.0]}
    null, placebo = controls(made_frame("comparison", values), "last")
    assert (null.kind, null.name, null.seeds, null.verdict) == ("aa", f"KD again - KD, {COLUMN}", 3, "supported")
    assert null.effect == pytest.approx(14.9 / 3)
    assert null.lower < null.effect < null.upper
    assert null.dealt is not None
    assert (placebo.kind, placebo.seeds, placebo.verdict, placebo.dealt) == ("placebo", 2, "undecided", None)
    assert false_calls([null, placebo]) == (1, 1)
    assert controls(pd.DataFrame(), "last") == []
