"""Tests intervals, significance and rankings of a table's differences, on generated frames."""

import math
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from benchmarks.analysis.frame import results_frame
from benchmarks.profiles.read import read_profile
from benchmarks.report.markdown import difference_lines, matrix_markdown
from benchmarks.report.tables import notes, summary
from benchmarks.statistics.comparison import (
    AVERAGE,
    Rule,
    by_seed,
    compare,
    differences,
    is_sure,
    pairwise,
    relative_gains,
    seed_correlation,
)
from benchmarks.statistics.intervals import LATE, holm, one_sample, rounding_std, two_samples
from benchmarks.statistics.ranking import rank, ranking_lines
from benchmarks.tables.benchmark import BENCHMARKS, TOP1
from tests.benchmarks.made import cells_of, finish, made_frame

TABLE3, BEST = BENCHMARKS["table3"], TOP1[0]
FLOOR = rounding_std(10_000)
KD, SSKD = [10.0, 20.0, 30.0, 41.0], [11.0, 21.5, 31.0]


def gaps_of(values: dict[tuple[str, str], list[float]], **more: Any) -> pd.DataFrame:
    return differences(made_frame("table3", values), TABLE3, BEST, **more).set_index(["column", "row"])


def test_between_methods_all_seeds_count_by_welch_and_means_over_columns_for_seeds_that_have_all() -> None:
    values = {("Teacher", "a/b"): [80.0], ("KD", "a/b"): KD, ("SSKD", "a/b"): SSKD}
    gaps = gaps_of(values | {("KD", "c/d"): [1.0, 2.0, 4.0], ("SSKD", "c/d"): [4.0, 5.0, 5.0]})
    assert list(gaps.index) == [("a/b", "KD"), ("c/d", "KD"), (AVERAGE, "KD")]
    expected = two_samples(SSKD, KD, FLOOR).estimate()
    assert gaps.loc[("a/b", "KD"), ["difference", "lower", "upper", "seeds"]].tolist() == pytest.approx(list(expected))
    over = two_samples([7.5, 13.25, 18.0], [5.5, 11.0, 17.0], FLOOR).estimate()
    assert gaps.loc[(AVERAGE, "KD"), ["difference", "lower", "upper", "seeds"]].tolist() == pytest.approx(list(over))
    assert gaps.loc[("a/b", "KD"), "improvement"] == 6 / 12
    few = gaps_of(values, rule=Rule(last=LATE))
    assert few.loc[("a/b", "KD"), "upper"] > gaps.loc[("a/b", "KD"), "upper"]


def test_averages_over_columns_have_a_second_interval_over_columns() -> None:
    columns = {"a/b": 1.0, "c/d": 2.0, "e/f": 4.0}
    gaps = gaps_of({(r, c): [g * (r == "SSKD")] * 3 for c, g in columns.items() for r in ("KD", "SSKD")})
    over = one_sample([1.0, 2.0, 4.0]).estimate()
    assert gaps.loc[(AVERAGE, "KD"), ["pairs_lower", "pairs_upper"]].tolist() == pytest.approx([over.lower, over.upper])
    assert gaps.loc[("a/b", "KD"), ["pairs_lower", "pairs_upper"]].isna().all()


def test_within_a_method_it_is_paired() -> None:
    """Table 1: one method, its columns are compared; the spread that they share cancels."""
    values = {("SSKD", "50%"): [10.0, 20.0, 31.0], ("SSKD", "75%"): [11.0, 21.2, 32.1]}
    (gap,) = differences(made_frame("table1", values), BENCHMARKS["table1"], BEST).to_dict("records")
    expected = one_sample([1.0, 1.2, 1.1], FLOOR * math.sqrt(2)).estimate()
    assert (gap["row"], gap["lower"], gap["upper"]) == (
        "50%",
        pytest.approx(expected.lower),
        pytest.approx(expected.upper),
    )
    first, second = (dict(enumerate(values["SSKD", column])) for column in ("75%", "50%"))
    assert compare(first, second, same_method=True).two is False
    assert compare(first, second, same_method=False).sd > 5 * compare(first, second, same_method=True).sd


def test_bold_is_holms_over_the_rivals_and_controls_are_none() -> None:
    reached = {
        "KD": [70.0, 70.4, 69.9],
        "AT": [72.0, 72.5, 71.0],
        "KD again": [60.0, 60.1, 60.2],
        "SSKD": [73.0, 73.1, 73.4],
    }
    gaps = gaps_of({(row, "a/b"): values for row, values in reached.items()})
    alone = [float(two_samples(reached["SSKD"], reached[row], FLOOR).p()) for row in ("KD", "AT")]
    assert gaps.loc["a/b"].loc[["KD", "AT"], "p_holm"].tolist() == pytest.approx(holm(alone))
    assert math.isnan(gaps.loc[("a/b", "KD again"), "p_holm"])
    assert [is_sure(p) for p in gaps["p_holm"]] == [True, False, False]
    lines = difference_lines(gaps.reset_index(), TABLE3, 2)
    assert ["**" in line for line in lines] == [True, False, False]
    two_seeds = gaps_of({(row, "a/b"): values[:2] for row, values in reached.items()})
    assert two_seeds[["lower", "p_holm"]].isna().all(axis=None)


def test_all_pairs_have_their_own_correction_and_no_controls() -> None:
    levels = {"A": [0.0, 0.1, 0.2], "B": [1.0, 1.2, 1.4], "C": [9.0, 9.3, 9.6], "KD shuffled": [1.0, 1.0, 1.0]}
    frame = made_frame("comparison", {(row, "x"): values for row, values in levels.items()})
    pairs = pairwise(frame, BENCHMARKS["comparison"], BEST).set_index(["row", "other"])
    own = {(a, b): float(two_samples(levels[a], levels[b], FLOOR).p()) for a, b in (("A", "B"), ("A", "C"), ("B", "C"))}
    for (a, b), p in zip(own, holm(list(own.values())), strict=True):
        assert pairs.loc[(a, b), "p_holm"] == pairs.loc[(b, a), "p_holm"] == pytest.approx(p)
        assert pairs.loc[(a, b), "lower"] == pytest.approx(-pairs.loc[(b, a), "upper"])
        assert (pairs.loc[(a, b), "improvement"], pairs.loc[(b, a), "improvement"]) == (0.0, 1.0)
    assert len(pairs) == 6
    text = matrix_markdown(pairs.reset_index(), 2)
    assert ("| A | - |" in text, "KD shuffled" in text) == (True, False)
    kl = made_frame("table6", {("KD", "a"): [0.1, 0.2], ("AT", "a"): [0.3, 0.4]}, "kl")
    less = pairwise(kl, BENCHMARKS["table6"], BENCHMARKS["table6"].measures[0]).set_index(["row", "other"])
    assert less.loc[("KD", "AT"), "improvement"] == 1.0  # of KL, smaller is better


def test_seeds_count_in_the_order_of_their_numbers() -> None:
    """Seed 1 is under way: 2 waits for it. A refused run is none. A failed one counts, if it has a number."""
    frame = made_frame("comparison", {("KD", "x"): [1.0, 2.0, 3.0, 4.0], ("AT", "x"): [5.0, 6.0, 7.0, 8.0]})
    frame.loc[frame["id"] == "KD-x-1", ["state", "last_top1"]] = ["incomplete", math.nan]
    frame.loc[frame["id"] == "AT-x-0", ["state", "last_top1"]] = ["refused", math.nan]
    frame.loc[frame["id"] == "AT-x-2", ["state", "last_top1"]] = ["failed", 1.0]
    assert by_seed(frame.iloc[::-1], "last_top1") == {("KD", "x"): {0: 1.0}, ("AT", "x"): {1: 6.0, 2: 1.0, 3: 8.0}}
    assert by_seed(frame, "cka") == {}


def test_nothing_finished_gives_no_differences() -> None:
    frame = pd.DataFrame({"row": ["KD", "SSKD"], "column": ["a", "a"], "seed": [0, 0], "best_top1": [None, None]})
    assert differences(frame, TABLE3, BEST).empty


def test_the_correlation_within_a_seed_by_hand() -> None:
    """The two methods correlate positively in column x and negatively in y; controls and the teacher are not
    methods."""
    x, y = [1.0, 2.0, 3.0], [1.0, 3.0, 2.0]
    values = {("A", "x"): x, ("B", "x"): x, ("A", "y"): x, ("B", "y"): y, ("KD again", "x"): x, ("Teacher", "x"): x}
    by_cell = {cell: dict(enumerate(of_cell)) for cell, of_cell in values.items()}
    value, pairs = seed_correlation(by_cell)
    assert (value, pairs) == (pytest.approx((2 + 1) / 4), 2)
    assert math.isnan(seed_correlation({("A", "x"): {0: 1.0}})[0])


HEIGHTS = {
    "Student": (60, 61, 62, 63, 64, 65),
    "KD": (62, 62, 64, 62, 66, 66.5),
    "SSKD": (63, 64.2, 65.4, 66.6, 67.8, 69),
}


def test_ranks_over_columns_and_the_reference_against_rivals_by_hand() -> None:
    found = rank({row: list(map(float, heights)) for row, heights in HEIGHTS.items()}, "SSKD")
    assert found.ranks == pytest.approx({"SSKD": 1.0, "KD": 13 / 6, "Student": 17 / 6})
    assert found.friedman == pytest.approx(stats.friedmanchisquare(*HEIGHTS.values()).pvalue)
    assert found.p_holm == pytest.approx({"Student": 2 * 2 / 2**6, "KD": 2 * 2 / 2**6})  # all six signs alike


def test_a_ranking_takes_six_columns_and_names_who_is_left_out() -> None:
    columns = [f"p{i}/q" for i in range(6)]
    values = {(r, c): [h - 0.5, h + 0.5] for r, hs in HEIGHTS.items() for c, h in zip(columns, hs, strict=True)}
    frame = made_frame("table3", values | {("CRD", columns[0]): [50.0], ("KD again", columns[0]): [50.0]})
    (line,) = ranking_lines(frame, "best_top1", "SSKD")
    assert line.startswith("Mean ranks over 6 columns: SSKD 1.0, KD 2.2, Student 2.8.")
    assert "missing in some columns: CRD." in line
    assert ranking_lines(frame[frame["column"] != columns[5]], "best_top1", "SSKD") == []
    assert ranking_lines(frame[frame["row"] != "KD"], "best_top1", "SSKD") == []
    assert ranking_lines(frame, "best_top1", "CRD") == []
    equal = rank({row: [1.0] * 6 for row in "ABC"}, "A")
    assert (equal.friedman, set(equal.p_holm.values()), set(equal.ranks.values())) == (1.0, {1.0}, {2.0})
    assert np.isfinite(equal.friedman)


def test_a_failed_student_counts_as_chance_and_is_named(tmp_path: Path) -> None:
    """CIFAR-100: 1 % of top-1, 5 % of top-5. Its teacher's failure is not the student's own."""
    cells = cells_of(read_profile("paper", ["seeds=[0,1,2]", "methods=[kd,sskd]"]), "comparison")
    finish(cells, tmp_path, lambda spec: 70.0 + spec.seed, skip=("-kd-cifar100-s1-",))
    failed = next(cell.spec for cell in cells["comparison"] if cell.row == "KD" and cell.spec.seed == 1)
    (tmp_path / failed.id).mkdir()
    (tmp_path / failed.id / "failed.json").write_text('{"message": "the loss is not a number"}')
    frame = results_frame(cells, tmp_path)
    run = frame[frame["id"] == failed.id].iloc[0]
    assert (run["state"], run["last_top1"], run["best_top5"]) == ("failed", 1.0, 5.0)
    own = frame[frame["benchmark"] == "comparison"]
    assert by_seed(own, "best_top1")["KD", "resnet56/resnet20"] == {0: 70.0, 1: 1.0, 2: 72.0}
    benchmark = BENCHMARKS["comparison"]
    table = summary(own, benchmark)
    assert table.set_index("row").loc["KD", "best mean"] == pytest.approx((70 + 1 + 72) / 3)
    assert any("KD in resnet56/resnet20, seed 1, failed" in note for note in notes(own, benchmark, table))


def test_gains_are_relative_to_kds_own_where_that_is_sure() -> None:
    """Sums over columns: (2 + 4) / (1 + 5); the mean of the columns' ratios would be 1.4."""
    seeds = np.array([-0.1, 0.0, 0.1])
    levels = {("Student", "a"): 50, ("KD", "a"): 51, ("SSKD", "a"): 53, ("Student", "b"): 50, ("KD", "b"): 55}
    levels |= {("SSKD", "b"): 59}
    frame = made_frame("table3", {cell: list(level + seeds) for cell, level in levels.items()})
    assert relative_gains(frame, BEST) == pytest.approx({"SSKD": 1.0})
    unsure = made_frame("table3", {cell: list(level + 40 * seeds) for cell, level in levels.items()})
    assert relative_gains(unsure, BEST) == {}
