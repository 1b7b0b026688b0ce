"""Learning curves: means and bands over seeds, held-out beside test images, on paper and on the page."""

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from benchmarks.analysis.frame import curve_of, read_epochs
from benchmarks.report.curves import MOST_LINES, curve_groups, curves_frame, mean_curves
from benchmarks.report.style import styles_of
from benchmarks.tables.benchmark import BENCHMARKS
from tests.benchmarks.made import made_frame

PAIR = "resnet56/resnet20"


def curves_of(frame: pd.DataFrame, epochs: int = 3, held_out: bool = False) -> dict[str, np.ndarray]:
    """Epoch e of seed s has e + s on test images, and 10 more on held-out ones."""
    return {
        run: np.array([[e, e + s, e + s + 10 if held_out else np.nan] for e in range(1, epochs + 1)], dtype=float)
        for run, s in zip(frame["id"], frame["seed"], strict=True)
    }


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
    benchmark = BENCHMARKS["comparison"]
    means = {"comparison": mean_curves(frame, curves_of(frame, held_out=held_out))}
    table = curves_frame(means)
    assert table["benchmark"].unique().tolist() == ["comparison"]
    assert table["held-out mean"].notna().all() == held_out
    plots = curve_groups(
        frame, benchmark, curves_of(frame, held_out=held_out), means["comparison"], styles_of(frame["row"])
    )
    assert [plot.column for plot in plots] == [PAIR] * (1 + held_out)


def test_many_runs_have_a_line_for_each_method_with_a_band() -> None:
    seeds = MOST_LINES // 2 + 1
    frame = made_frame("comparison", {(row, PAIR): [1.0] * seeds for row in ("KD", "SSKD")})
    curves = curves_of(frame)
    for kept, lines, runs in ((frame, 2, {""}), (frame[frame["seed"] < 2], 4, None)):
        (plot,) = curve_groups(
            kept, BENCHMARKS["comparison"], curves, mean_curves(kept, curves), styles_of(frame["row"])
        )
        assert len(plot.lines) == lines
        assert {line.run for line in plot.lines} == (runs or set(kept["id"]))
        assert all(bool(line.band) == bool(runs) for line in plot.lines)


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
        ("[]\n7\n\n{}", []),
    ],
)
def test_only_whole_lines_with_numbers_are_read(tmp_path: Path, text: str, found: list[list[float | None]]) -> None:
    (tmp_path / "m").write_text(text)
    curve = curve_of(read_epochs(tmp_path / "m"))
    assert [[None if np.isnan(x) else x for x in point] for point in curve.tolist()] == found
