"""Text that others wrote shows as text in Markdown and LaTeX, and computes nothing in a spreadsheet."""

import csv
import io

import pandas as pd
import pytest

from benchmarks.analysis.comparability import ComparedItem, TableComparability
from benchmarks.profiles.read import read_profile
from benchmarks.report.comparability import comparability_markdown
from benchmarks.report.escaping import csv_text, markdown_text
from benchmarks.report.markdown import section_markdown
from benchmarks.report.section import Section
from benchmarks.report.tables import escape, markdown, summary
from benchmarks.tables.benchmark import BENCHMARKS
from tests.benchmarks.made import made_frame

PAIR = "resnet56/resnet20"
HOSTILE = (
    "<script>alert(1)</script>",
    "a|b",
    "two\nlines",
    "x\r\n| y |",
    "[name](http://bad)",
    "`code`",
    "*b*",
    "\x1b[31m",
)


@pytest.mark.parametrize("text", HOSTILE)
def test_markdown_shows_a_text_as_it_is_on_one_line(text: str) -> None:
    shown = markdown_text(text)
    assert len(shown.splitlines()) == 1
    assert "<" not in shown
    assert "](" not in shown.replace("\\]", "")
    for mark in "|`*":
        assert shown.count(mark) == shown.count(f"\\{mark}")
    assert all(character.isprintable() for character in shown)


def test_usual_names_stay() -> None:
    for name in ("wrn_40_2/wrn_16_2", "SSKD+KD, no L_ss", "AMD EPYC, 2 cores", "[0.31, 2.23], 3 seeds", "25%"):
        assert markdown_text(name) == name


def test_text_in_latex() -> None:
    assert escape(r"a\b~c^d_e{f}&%$#") == (r"a\textbackslash{}b\textasciitilde{}c\textasciicircum{}d\_e\{f\}\&\%\$\#")


@pytest.mark.parametrize("text", HOSTILE)
def test_a_tables_rows_and_notes_are_escaped(text: str) -> None:
    frame = made_frame("comparison", {(text, PAIR): [70.0, 71.0], ("KD", PAIR): [69.0, 70.0]})
    benchmark = BENCHMARKS["comparison"]
    table, empty = summary(frame, benchmark), pd.DataFrame()
    gaps = {measure.label: empty for measure in benchmark.measures}
    section = Section(benchmark, frame, table, gaps, {}, [], [f"By {text} (h)."], empty, None)
    written = section_markdown(section)
    assert markdown(table, benchmark).count("\n") == 4
    assert markdown_text(text) in written
    assert "<script" not in written
    place = {"field": "machine", "part": "device", "column": PAIR, "role": "student"}
    item = ComparedItem(**place, values={text: 2}, not_recorded=0, outcome="shown")
    card = TableComparability(fields=[item], refused=[])
    lines = comparability_markdown({"comparison": card}, read_profile("paper", [])).splitlines()
    assert [line for line in lines if line.startswith("| device | ") and line.endswith(" |")]


FORMULAS = (
    '=HYPERLINK("http://bad")',
    "+cmd|' /C calc'!A0",
    "-2+3+cmd|' /C calc'!A0",
    "@SUM(1)",
    "\t=1",
    "\r=1",
    "＝1+1",
)


@pytest.mark.parametrize("text", FORMULAS)
def test_no_csv_carries_a_formula(text: str) -> None:
    frame = pd.DataFrame({"host": [text, "vm", None], text: ["a", "b", "c"], "best": [-1.5, 2.0, float("nan")]})
    rows = list(csv.reader(io.StringIO(csv_text(frame), newline="")))
    assert all(cell[:1] not in ("=", "+", "@", "\t", "\r", "＝") for row in rows for cell in row)
    assert rows[1][0] == f"'{text}".replace("\r", " ")
    assert [row[2] for row in rows[1:]] == ["-1.5", "2.0", ""]


def test_numbers_stay_numbers_even_as_text() -> None:
    texts = ["-5", "+1.25", "-1e-3", "-.5", "-", "plain"]
    mixed = pd.DataFrame({"x": pd.Series([-5, "-0.5", 2.5, True], dtype=object), "y": [1, 2, 3, 4]})
    assert csv_text(pd.DataFrame({"x": texts})).splitlines()[1:] == texts
    assert csv_text(mixed) == mixed.to_csv(index=False)
