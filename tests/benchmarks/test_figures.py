"""Figures: one look for a method wherever it is drawn, and the paper's values only where they belong."""

import io
from pathlib import Path

import pytest
from matplotlib.axes import Axes
from matplotlib.colors import to_hex
from PIL import Image

from benchmarks.report.figures import _figure, draw
from benchmarks.report.look import METHOD_LOOKS, looks
from benchmarks.report.tables import latex, markdown, summary
from benchmarks.tables.benchmark import BENCHMARKS
from tests.benchmarks.made import made_frame

NAMES = ("KD", "AT", "CRD", "SSKD", "SSKD without ss", "Mine")
PAIR = "resnet56/resnet20"


def drawn_looks(axis: Axes) -> dict[str, tuple[str, str]]:
    """Colour and marker by row, of a "lines" figure."""
    bars = axis.containers
    return {str(bar.get_label()): (to_hex(bar.lines[0].get_color()), str(bar.lines[0].get_marker())) for bar in bars}


def test_no_two_methods_look_the_same_and_company_changes_nothing() -> None:
    assert len(set(METHOD_LOOKS.values())) == len(METHOD_LOOKS)
    everything = looks([*METHOD_LOOKS, *NAMES, *(f"Own{i}" for i in range(20))])
    assert len(set(everything.values())) == len(everything)
    for name in NAMES:
        assert looks([name])[name] == looks(NAMES)[name]
    assert looks(NAMES)["SSKD without ss"].colour == looks(NAMES)["SSKD"].colour


def test_a_method_has_one_colour_and_marker_in_every_figure() -> None:
    """Rows come in another order in figure 4b, and with another beside them."""
    few = made_frame("fig4a", {(row, c): [1.0 + i, 2.0] for i, row in enumerate(NAMES) for c in ("10%", "25%")})
    rows = ("FitNet", *reversed(NAMES))
    noisy = made_frame("fig4b", {(row, c): [1.0 + i, 2.0] for i, row in enumerate(rows) for c in ("0%", "50%")})
    first, second = (
        _figure(frame, BENCHMARKS[name], None, looks(frame["row"]), narrow=False)
        for name, frame in (("fig4a", few), ("fig4b", noisy))
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
    figure = _figure(frame, benchmark, None, looks(frame["row"]), narrow=False)
    assert figure
    ticks = [line for line in figure.axes[0].lines if line.get_marker() == "|"]
    table = summary(frame, benchmark)
    text = markdown(table, benchmark)
    assert len(ticks) == (0 if setting else 2)
    assert ("best difference" in text) == (not setting)
    assert "best paper" in text
    assert "71.49" in latex(table, benchmark)


def test_a_far_teacher_leaves_the_students_their_room() -> None:
    values = {("Teacher", PAIR): [73.4], ("KD", PAIR): [18.0, 19.0], ("SSKD", PAIR): [19.0, 20.0]}
    frame = made_frame("comparison", values, epochs=12)
    figure = _figure(frame, BENCHMARKS["comparison"], None, looks(frame["row"]), narrow=False)
    assert figure
    assert figure.axes[0].get_xlim()[1] < 25
    assert [text.get_text() for text in figure.axes[0].texts] == ["73.4 →"]


def test_narrow_figures_have_their_panels_below_each_other(tmp_path: Path) -> None:
    frame = made_frame("fig4a", {(row, c): [1.0, 2.0] for row in NAMES for c in ("10%", "25%")})
    drawn = draw(frame, BENCHMARKS["fig4a"], tmp_path)
    assert drawn
    wide, narrow = Image.open(tmp_path / "fig4a.png"), Image.open(io.BytesIO(drawn.narrow))
    assert wide.width > wide.height
    assert narrow.width == 576  # 358 CSS pixels as the page shows it
    assert narrow.height > narrow.width
