"""Figures and learning curves: one style for a method wherever it is drawn, and the paper's values only where they
belong."""

import json
from pathlib import Path
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest
from matplotlib.axes import Axes
from matplotlib.colors import to_hex
from matplotlib.figure import Figure

from benchmarks.analysis.frame import curve_of, read_epochs
from benchmarks.report.canvas import LONGEST, attempt
from benchmarks.report.curves import MOST_LINES, Plot, curve_groups, mean_curves
from benchmarks.report.dots import off_axis
from benchmarks.report.figures import draw
from benchmarks.report.style import METHOD_STYLES, styles_of
from benchmarks.report.tables import latex, markdown, summary
from benchmarks.tables.benchmark import BENCHMARKS
from tests.benchmarks.made import made_frame

NAMES = ("KD", "AT", "CRD", "SSKD", "SSKD without ss", "Mine")
PAIR = "resnet56/resnet20"


def drawn(name: str, values: dict[tuple[str, str], list[float]], **setting: Any) -> Figure:
    frame = made_frame(name, values, **setting)
    figure = draw(frame, BENCHMARKS[name], styles_of(frame["row"]))
    assert figure
    return figure


def looks(axis: Axes) -> dict[str, tuple[str, str]]:
    """Colour and marker by row, of a "lines" figure, whose legend names the rows in the order of its lines."""
    rows = [text.get_text() for text in axis.figure.legends[0].get_texts()]
    lines = [bar.lines[0] for bar in axis.containers]
    seen = [(to_hex(line.get_color()), str(line.get_marker())) for line in lines]
    return dict(zip(rows, seen, strict=True))


def test_no_two_methods_look_the_same_and_company_changes_nothing() -> None:
    assert len(set(METHOD_STYLES.values())) == len(METHOD_STYLES)
    everything = styles_of([*METHOD_STYLES, *NAMES, *(f"Own{i}" for i in range(20))])
    assert len(set(everything.values())) == len(everything)
    for name in NAMES:
        assert styles_of([name])[name] == styles_of(NAMES)[name]
    assert styles_of(NAMES)["SSKD without ss"].colour == styles_of(NAMES)["SSKD"].colour


def test_a_method_has_one_colour_and_marker_in_every_figure() -> None:
    """Rows come in another order in figure 4b, and with another beside them."""
    rows = ("FitNet", *reversed(NAMES))
    first = drawn("fig4a", {(row, c): [1.0 + i, 2.0] for i, row in enumerate(NAMES) for c in ("10%", "25%")})
    second = drawn("fig4b", {(row, c): [1.0 + i, 2.0] for i, row in enumerate(rows) for c in ("0%", "50%")})
    seen = [looks(axis) for axis in (*first.axes, *second.axes)]
    assert set(seen[0]) == set(NAMES)
    assert all(of_axis[row] == seen[0][row] for of_axis in seen for row in NAMES)
    assert len(set(seen[-1].values())) == len(rows)


@pytest.mark.parametrize("setting", [{}, {"epochs": 12}, {"fraction": 0.1}])
def test_the_papers_ticks_and_differences_are_of_its_setting_only(setting: dict[str, float]) -> None:
    values = {("KD", PAIR): [70.0, 70.5], ("SSKD", PAIR): [71.0, 71.5]}
    ticks = [line for line in drawn("table3", values, **setting).axes[0].lines if line.get_marker() == "|"]
    assert len(ticks) == (0 if setting else 1)  # SSKD's; KD's number belongs to another teacher
    benchmark = BENCHMARKS["table3"]
    table = summary(made_frame("table3", values, **setting), benchmark)
    text = markdown(table, benchmark)
    assert ("best difference" in text) == (not setting)
    assert "best paper" in text
    assert "71.49" in latex(table, benchmark)


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
    (axis,) = drawn("comparison", {(row, PAIR): [x, x + 0.5] for row, x in reached.items()}, epochs=12).axes
    low, high = axis.get_xlim()
    assert 36 < low < 39
    assert 49 < high < 52
    assert {text.get_text() for text in axis.texts} == {"← 1.7", "70.0 →"}


@pytest.mark.parametrize(
    ("means", "far"),
    [
        ({"Teacher": 74.0, "A": 70.0, "B": 71.0, "C": 72.0}, set()),  # near enough for one axis
        ({"Teacher": 73.4, "A": 18.5, "B": 19.5}, {"Teacher"}),
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

    def figure() -> Figure:
        return drawn("comparison", {(row, PAIR): [70.0 + i, 71.0] for i, row in enumerate(NAMED)}, epochs=12)

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
    made.draw_without_rendering()
    (axis,) = made.axes
    assert axis.get_window_extent().width > 0.4 * made.bbox.width
    assert max(len(label.get_text()) for label in axis.get_yticklabels()) == LONGEST


def test_a_figure_that_fails_costs_only_itself(tmp_path: Path) -> None:
    (tmp_path / "table3.pdf").write_bytes(b"of an earlier report")

    def fails() -> Figure:
        raise RuntimeError("latex was not able to process the following string")

    made, notes = attempt(tmp_path / "table3", fails)
    assert made is None
    assert "table3" in notes[0]
    assert "latex was not able" in notes[0]
    assert not list(tmp_path.iterdir())


def curves_of(frame: pd.DataFrame, epochs: int = 3, held_out: bool = False) -> dict[str, np.ndarray]:
    """Epoch e of seed s has e + s on test images, and 10 more on held-out ones."""
    return {
        run: np.array([[e, e + s, e + s + 10 if held_out else np.nan] for e in range(1, epochs + 1)], dtype=float)
        for run, s in zip(frame["id"], frame["seed"], strict=True)
    }


def plots(frame: pd.DataFrame, curves: dict[str, np.ndarray]) -> list[Plot]:
    return curve_groups(frame, BENCHMARKS["comparison"], curves, mean_curves(frame, curves), styles_of(frame["row"]))


def test_a_mean_and_its_deviation_over_finished_seeds() -> None:
    frame = made_frame("comparison", {("KD", PAIR): [1.0, 2.0, 3.0], ("SSKD", PAIR): [1.0]})
    curves = curves_of(frame, held_out=True)
    frame.loc[2, "state"] = "refused"
    curves[f"KD-{PAIR}-1"] = curves[f"KD-{PAIR}-1"][:2]  # interrupted: the third epoch is not every seed's
    means = mean_curves(frame, curves).set_index(["row", "epoch"])
    assert means.index.tolist() == [("KD", 1), ("KD", 2), ("SSKD", 1), ("SSKD", 2), ("SSKD", 3)]
    first = means.loc[("KD", 1)]
    assert (first["seeds"], first["test mean"], first["held-out mean"]) == (2, 1.5, 11.5)
    assert first["test sd"] == pytest.approx(0.7071)
    assert np.isnan(means.loc[("SSKD", 1), "test sd"])


@pytest.mark.parametrize("held_out", [False, True])
def test_held_out_images_have_curves_of_their_own(held_out: bool) -> None:
    frame = made_frame("comparison", {("KD", PAIR): [1.0, 2.0], ("SSKD", PAIR): [2.0, 3.0]})
    curves = curves_of(frame, held_out=held_out)
    table = mean_curves(frame, curves)
    assert table["benchmark"].unique().tolist() == ["comparison"]
    assert table["held-out mean"].notna().all() == held_out
    assert [plot.column for plot in plots(frame, curves)] == [PAIR] * (1 + held_out)


def test_many_runs_have_a_line_for_each_method_with_a_band() -> None:
    seeds = MOST_LINES // 2 + 1
    frame = made_frame("comparison", {(row, PAIR): [1.0] * seeds for row in ("KD", "SSKD")})
    curves, few = curves_of(frame), frame[frame["seed"] < 2]
    (many,), (each,) = plots(frame, curves), plots(few, curves)
    assert [(line.run, bool(line.band)) for line in many.lines] == [("", True)] * 2
    assert {line.run for line in each.lines} == set(few["id"])
    assert not any(line.band for line in each.lines)


LINE = {"stage": "main", "epoch": 3, "test_top1": 71.5, "held_out_top1": 70.0}


@pytest.mark.parametrize(
    ("text", "found"),
    [
        (json.dumps(LINE), [[3, 71.5, 70.0]]),
        (json.dumps(LINE, separators=(",", ":")), [[3, 71.5, 70.0]]),
        (json.dumps({"test_head_top1": 1e2, "epoch": 1}), [[1, 100.0, None]]),
        (json.dumps(LINE)[:-1], []),
        (json.dumps(LINE | {"test_top1": "many"}), []),
        (json.dumps(LINE | {"test_top1": float("nan")}), []),
        (json.dumps({"epoch": 3, "loss": 1.0}), []),
        (json.dumps(LINE | {"seconds": "x"}), []),
        (f"{json.dumps(LINE)}\n{{", [[3, 71.5, 70.0]]),  # the last line is incomplete
        (f"{{\n{json.dumps(LINE)}", []),  # another is, so seconds are missing
        (f"[]\n{json.dumps(LINE)}", []),
        ("7", []),
        ("", []),
    ],
)
def test_only_whole_lines_with_numbers_are_read(tmp_path: Path, text: str, found: list[list[float | None]]) -> None:
    (tmp_path / "m").write_text(text)
    curve = curve_of(read_epochs(tmp_path / "m"))
    assert [[None if np.isnan(x) else x for x in point] for point in curve.tolist()] == found


def test_curves_are_thinned_and_keep_the_last_epoch(tmp_path: Path) -> None:
    rows = [{"stage": "initial", "epoch": i, "loss": 1.0} for i in range(1, 31)]
    rows += [{"stage": "main", "epoch": i, "test_top1": float(i)} for i in range(1, 241)]
    (tmp_path / "m").write_text("\n".join(map(json.dumps, rows)))
    curve = curve_of(read_epochs(tmp_path / "m"), points=60)
    assert 40 <= len(curve) <= 60
    assert curve[-1, :2].tolist() == [240, 240.0]
    assert (curve[:, 0] == curve[:, 1]).all()
    assert len(read_epochs(tmp_path / "none.jsonl")) == 0
