"""The first thing on a page: how what the user asked for stands to each rival."""

import dataclasses
from types import SimpleNamespace
from typing import Any

import pandas as pd
import pytest

from benchmarks.report.page import claims_headline
from benchmarks.report.page_asked import asked
from benchmarks.report.section import Section
from benchmarks.statistics.comparison import differences
from benchmarks.tables.benchmark import BENCHMARKS
from tests.benchmarks.made import made_frame

PAIR = "resnet56/resnet20"
CLOSE = [70.0, 70.1, 70.2, 70.1]


def told(*frames: pd.DataFrame, reference: str = "Mine") -> Any:
    """Returns the page's comparison of methods for these tables."""
    sections = []
    for frame in frames:
        benchmark = dataclasses.replace(BENCHMARKS[frame["benchmark"].iloc[0]], reference=reference)
        gaps = {measure.label: differences(frame, benchmark, measure) for measure in benchmark.measures}
        sections.append(Section(benchmark, frame, pd.DataFrame(), gaps, {}, [], [], pd.DataFrame(), None))
    profile = SimpleNamespace(margin=0.5, late_looks=False)
    report = SimpleNamespace(sections=sections, verdicts=[SimpleNamespace(epoch="last")], profile=profile)
    return asked(report)  # type: ignore[arg-type]


def test_each_rival_has_a_verdict_an_effect_an_interval_and_n() -> None:
    apart = {"Mine": CLOSE, "Student": [x - 9 for x in CLOSE], "AT": [x + 5 for x in CLOSE], "KD": [69.0, 71.2, 70.0]}
    apart |= {"SP": [x + 0.02 for x in CLOSE], "CC": [68.9, 69.5, 69.2, 69.3]}
    frame = made_frame("comparison", {(row, PAIR): values for row, values in {"Teacher": [80.0], **apart}.items()})
    found = told(frame)
    lines = {rival["row"]: rival for rival in found["rivals"]}
    assert {row: line["verdict"] for row, line in lines.items()} == {
        "Student": "ahead",
        "AT": "behind",
        "KD": "undecided",
        "SP": "equivalent",
        "CC": "undecided",
    }
    assert lines["CC"]["alone"] == "ahead"  # without the correction for five rivals
    assert (lines["KD"]["seeds"], lines["SP"]["seeds"]) == (3, 4)
    assert (lines["Student"]["text"], lines["AT"]["text"]) == ("+9.00", "-5.00")
    low, high = map(float, lines["KD"]["interval"].split(" to "))
    assert low < 0 < high
    assert lines["KD"]["anchor"] == "cell-comparison-KD-resnet56-resnet20-last"
    assert found["headline"] == "Mine is ahead of Student; behind AT; equivalent to SP; undecided against KD and CC"
    assert found["reference"] == "Mine"


def test_a_measure_of_which_less_is_better() -> None:
    gaps = made_frame("table6", {("SSKD", PAIR): [0.1, 0.11, 0.12], ("KD", PAIR): [0.4, 0.42, 0.41]}, measure="kl")
    gaps["cka"] = 0.5
    assert told(gaps, reference="SSKD")["rivals"][0]["verdict"] == "ahead"


@pytest.mark.parametrize("seeds", [1, 2])
def test_few_seeds_decide_nothing_and_have_no_interval(seeds: int) -> None:
    frame = made_frame("comparison", {("Mine", PAIR): [80.0] * seeds, ("KD", PAIR): [10.0] * seeds})
    (line,) = told(frame)["rivals"]
    assert (line["verdict"], line["interval"], line["seeds"]) == ("undecided", "", seeds)


def test_several_columns_are_told_as_one_where_all_are_there() -> None:
    others = ("wrn_40_2/wrn_16_2", "vgg13/vgg8")
    values = {(row, column): CLOSE for row in ("Mine", "KD") for column in (PAIR, *others)}
    frame = made_frame("comparison", values | {("AT", PAIR): CLOSE, ("AT", others[0]): CLOSE})
    where = [(rival["row"], rival["where"]) for rival in told(frame)["rivals"]]
    assert where == [("KD", "mean over 3 columns"), ("AT", PAIR), ("AT", others[0])]


def test_columns_on_an_axis_are_told_each_by_itself() -> None:
    values = {("SSKD", "5%"): CLOSE, ("KD", "5%"): [x - 9 for x in CLOSE], ("AT", "5%"): [x - 9 for x in CLOSE]}
    values |= {("SSKD", "100%"): CLOSE, ("KD", "100%"): [69.0, 71.2, 70.0], ("AT", "100%"): [x - 9 for x in CLOSE]}
    frame = made_frame("fig4a", values)
    found = told(frame, reference="SSKD")
    assert found["headline"] == "SSKD is ahead of KD (5%) and AT; undecided against KD (100%)"
    assert [(rival["row"], rival["where"]) for rival in found["rivals"]] == [
        (row, column) for row in ("KD", "AT") for column in ("5%", "100%")
    ]
    own = made_frame("comparison", {("SSKD", PAIR): CLOSE, ("KD", PAIR): CLOSE})
    assert told(frame, own, reference="SSKD")["benchmark"].id == "comparison"  # own methods come first


def test_a_line_about_a_table_names_the_columns_that_have_runs() -> None:
    """A table of two columns, of which one has no run yet: nobody may read the line as being about both."""
    values = {("SSKD", "equal epochs"): CLOSE, ("KD", "equal epochs"): [60.0, 60.1, 60.3]}
    frame = made_frame("equal_time", values | {("SSKD", "equal time"): CLOSE})
    more = pd.concat([frame, made_frame("equal_time", {("KD", "equal time"): [61.0, 61.1, 61.3]})])
    first = made_frame("comparison", {("SSKD", PAIR): CLOSE, ("KD", PAIR): [60.0, 60.1, 60.3]})
    texts = [told(first, second, reference="SSKD")["others"][0]["text"] for second in (frame, more)]
    assert texts == [
        "SSKD is ahead of KD (equal epochs; the table has 2 columns)",
        "SSKD is ahead of KD (equal epochs and equal time)",  # their mean would answer no question
    ]


@pytest.mark.parametrize(
    ("name", "rows"),
    [
        ("comparison", ["Mine"]),
        ("comparison", ["KD", "AT"]),
        ("comparison", ["Mine", "KD shuffled"]),
        ("comparison", ["Mine", "Teacher"]),
        ("table2", ["Mine", "KD"]),  # which compares no methods
    ],
)
def test_without_a_rival_nothing_is_told(name: str, rows: list[str]) -> None:
    assert told(made_frame(name, {(row, PAIR): CLOSE for row in rows})) is None


@pytest.mark.parametrize("name", ["fig4a", "comparison"])
def test_a_decided_claim_is_the_headline_where_no_own_methods_are_compared(name: str) -> None:
    verdicts = [
        SimpleNamespace(id="C8", verdict="supported", restated="SSKD above KD, in 5%"),
        SimpleNamespace(id="C9", verdict="undecided", restated=""),
    ]
    sections = [SimpleNamespace(benchmark=BENCHMARKS[name])]
    found = claims_headline(SimpleNamespace(sections=sections, verdicts=verdicts))  # type: ignore[arg-type]
    assert found == ("C8 is supported: SSKD above KD, in 5%" if name == "fig4a" else "")
