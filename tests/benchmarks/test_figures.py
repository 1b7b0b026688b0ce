"""Figures: one style for a method wherever it is drawn, and the paper's values only where they belong."""

from pathlib import Path

import matplotlib.pyplot as plt
import pandas as pd
import pytest
from matplotlib.axes import Axes
from matplotlib.colors import to_hex
from matplotlib.figure import Figure

from benchmarks.report.canvas import LONGEST, attempt
from benchmarks.report.dots import off_axis
from benchmarks.report.figures import draw
from benchmarks.report.style import METHOD_STYLES, styles_of
from benchmarks.report.tables import latex, markdown, summary
from benchmarks.tables.benchmark import BENCHMARKS
from tests.benchmarks.made import made_frame

NAMES = ("KD", "AT", "CRD", "SSKD", "SSKD without ss", "Mine")
PAIR = "resnet56/resnet20"


def drawn_looks(axis: Axes) -> dict[str, tuple[str, str]]:
    """Colour and marker by row, of a "lines" figure, whose legend names the rows in the order of its lines."""
    rows = [text.get_text() for text in axis.figure.legends[0].get_texts()]
    lines = [bar.lines[0] for bar in axis.containers]
    drawn = [(to_hex(line.get_color()), str(line.get_marker())) for line in lines]
    return dict(zip(rows, drawn, strict=True))


def test_no_two_methods_look_the_same_and_company_changes_nothing() -> None:
    assert len(set(METHOD_STYLES.values())) == len(METHOD_STYLES)
    everything = styles_of([*METHOD_STYLES, *NAMES, *(f"Own{i}" for i in range(20))])
    assert len(set(everything.values())) == len(everything)
    for name in NAMES:
        assert styles_of([name])[name] == styles_of(NAMES)[name]
    assert styles_of(NAMES)["SSKD without ss"].colour == styles_of(NAMES)["SSKD"].colour


def test_a_method_has_one_colour_and_marker_in_every_figure() -> None:
    """Rows come in another order in figure 4b, and with another beside them."""
    few = made_frame("fig4a", {(row, c): [1.0 + i, 2.0] for i, row in enumerate(NAMES) for c in ("10%", "25%")})
    rows = ("FitNet", *reversed(NAMES))
    noisy = made_frame("fig4b", {(row, c): [1.0 + i, 2.0] for i, row in enumerate(rows) for c in ("0%", "50%")})
    first, second = (
        draw(frame, BENCHMARKS[name], styles_of(frame["row"])) for name, frame in (("fig4a", few), ("fig4b", noisy))
    )
    assert first
    assert second
    seen = [drawn_looks(axis) for axis in (*first.axes, *second.axes)]
    assert set(seen[0]) == set(NAMES)
    assert all(of_axis[row] == seen[0][row] for of_axis in seen for row in NAMES)
    assert len(set(seen[-1].values())) == len(rows)


@pytest.mark.parametrize("setting", [{}, {"epochs": 12}, {"fraction": 0.1}])
def test_the_papers_ticks_and_differences_are_of_its_setting_only(setting: dict[str, float]) -> None:
    frame = made_frame("table3", {("KD", PAIR): [70.0, 70.5], ("SSKD", PAIR): [71.0, 71.5]}, **setting)
    benchmark = BENCHMARKS["table3"]
    figure = draw(frame, benchmark, styles_of(frame["row"]))
    assert figure
    ticks = [line for line in figure.axes[0].lines if line.get_marker() == "|"]
    table = summary(frame, benchmark)
    text = markdown(table, benchmark)
    assert len(ticks) == (0 if setting else 1)  # SSKD's; KD's number belongs to another teacher
    assert ("best difference" in text) == (not setting)
    assert "best paper" in text
    assert "71.49" in latex(table, benchmark)


def test_a_far_teacher_leaves_the_students_their_room() -> None:
    values = {("Teacher", PAIR): [73.4], ("KD", PAIR): [18.0, 19.0], ("SSKD", PAIR): [19.0, 20.0]}
    frame = made_frame("comparison", values, epochs=12)
    figure = draw(frame, BENCHMARKS["comparison"], styles_of(frame["row"]))
    assert figure
    assert figure.axes[0].get_xlim()[1] < 25
    assert [text.get_text() for text in figure.axes[0].texts] == ["73.4 →"]


def test_collapsed_methods_and_the_teacher_stand_at_the_edge() -> None:
    """The README's own figure: from 38 to 49, though a collapsed method has 1.5 and the teacher 69.7."""
    reached = {
        "Teacher": 69.7,
        "Student": 38.7,
        "KD": 44.6,
        "KD again": 43.7,
        "CC": 1.45,
        "AT": 38.4,
        "SSKD": 49.0,
    }
    frame = made_frame("comparison", {(row, PAIR): [value, value + 0.5] for row, value in reached.items()}, epochs=12)
    figure = draw(frame, BENCHMARKS["comparison"], styles_of(frame["row"]))
    assert figure
    low, high = figure.axes[0].get_xlim()
    assert 36 < low < 39
    assert 49 < high < 52
    assert {text.get_text() for text in figure.axes[0].texts} == {"← 1.7", "70.0 →"}


@pytest.mark.parametrize(
    ("means", "far"),
    [
        ({"Teacher": 74.0, "A": 70.0, "B": 71.0, "C": 72.0}, set()),  # near enough for one axis
        ({"A": 70.1, "B": 70.2, "C": 67.0, "D": 70.3}, set()),  # behind, but not collapsed
        ({"A": 70.1, "B": 70.2, "C": 1.0, "D": 70.3}, {"C"}),
        ({"A": 70.1, "B": 1.0, "C": 2.0, "D": 70.3, "E": 69.0}, {"B", "C"}),
        ({"A": 70.0, "B": 1.0}, set()),  # of two, neither is the odd one
        ({"A": 70.0, "B": 71.0, "C": 1.0, "D": 2.0}, set()),  # half of all is no exception
        ({"Teacher": 70.0}, set()),
    ],
)
def test_what_stands_off_the_axis(means: dict[str, float], far: set[str]) -> None:
    part = pd.DataFrame([{"row": row, "measure": "last", "mean": value, "sd": 0.1} for row, value in means.items()])
    assert set(off_axis(part, points=True)) == far


RC = {
    "text.usetex": True,
    "font.family": "serif",
    "pdf.fonttype": 3,
    "savefig.bbox": "tight",
    "figure.autolayout": True,
    "axes.unicode_minus": False,
    "axes.formatter.use_mathtext": True,
}
NAMED = ("SSKD", "a method with a name that is far longer than any figure has room for", "Mine")


def test_a_figure_is_the_same_file_whatever_a_users_matplotlibrc_says(tmp_path: Path) -> None:
    """Names of any length leave it its room, and its fonts are outlines (Type 42)."""
    frame = made_frame("comparison", {(row, PAIR): [70.0 + i, 71.0] for i, row in enumerate(NAMED)}, epochs=12)

    def figure() -> Figure | None:
        return draw(frame, BENCHMARKS["comparison"], styles_of(frame["row"]))

    file, notes = attempt(tmp_path / "usual", figure)
    assert file
    assert notes == []
    with plt.rc_context(RC):
        again, _ = attempt(tmp_path / "own", figure)
        assert plt.rcParams["pdf.fonttype"] == 3
    assert again
    assert again.read_bytes() == file.read_bytes()
    data = (tmp_path / "usual.pdf").read_bytes()
    assert (tmp_path / "own.pdf").read_bytes() == data
    assert b"/FontFile2" in data
    assert b"/Type3" not in data
    made = figure()
    assert made
    made.draw_without_rendering()
    (axis,) = made.axes
    assert axis.get_window_extent().width > 0.4 * made.bbox.width
    assert max(len(label.get_text()) for label in axis.get_yticklabels()) == LONGEST


def test_a_figure_that_fails_costs_only_itself(tmp_path: Path) -> None:
    (tmp_path / "table3.pdf").write_bytes(b"of an earlier report")

    def fails() -> Figure:
        raise RuntimeError("latex was not able to process the following string")

    drawn, notes = attempt(tmp_path / "table3", fails)
    assert drawn is None
    assert "table3" in notes[0]
    assert "latex was not able" in notes[0]
    assert not list(tmp_path.iterdir())
