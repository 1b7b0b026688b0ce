"""Tables, figures and texts from run folders, whole, partial and damaged."""

import json
from pathlib import Path

import pandas as pd
import pytest

from benchmarks.base import BENCHMARKS, Cell, Specs
from benchmarks.frame import read_curve, results_frame
from benchmarks.profiles import Profile, read_profile
from benchmarks.report import write_report
from benchmarks.summary import latex, summary
from sskd.config import RunSpec
from tests.benchmarks.made import finish, made_frame

SETTINGS = ["seeds=[0,1]"]


def cells_of(profile: Profile, *names: str) -> dict[str, list[Cell]]:
    return {name: BENCHMARKS[name].cells(Specs(profile.for_benchmark(name))) for name in names}


def top1(spec: RunSpec) -> float:
    """SSKD best by 4 and 4.1 points, and a point between the other methods' seeds."""
    return 70 + spec.seed + (4 + spec.seed / 10 if "sskd" in spec.id else 0)


@pytest.fixture
def paper() -> Profile:
    return read_profile("paper", SETTINGS)


def test_tables_hold_both_epochs_the_papers_value_and_the_difference(paper: Profile, tmp_path: Path) -> None:
    cells = cells_of(paper, "table4")
    finish(cells, tmp_path / "runs", top1)
    text = write_report(paper, cells, tmp_path)["table4"]
    table = pd.read_csv(tmp_path / "table4.csv").set_index(["row", "column"])
    entry = table.loc[("SSKD", "vgg13/MobileNetV2")]
    assert entry["best mean"] == pytest.approx(74.55)
    assert entry["last mean"] == pytest.approx(0.9 * 74.55)
    assert entry["best sd"] == pytest.approx(1.1 * 0.5**0.5)
    assert entry["seeds"] == 2
    assert entry["best paper"] == 71.53
    assert entry["best difference"] == pytest.approx(74.55 - 71.53)
    assert "| SSKD | vgg13/MobileNetV2 | 2 | 74.55 | 0.78 | 71.53 | +3.02 |" in text
    assert "average over 6 columns: SSKD - CRD: +4.05 [+3.41, +4.69], 2 seeds" in text
    claims = pd.read_csv(tmp_path / "claims.csv").set_index(["id", "epoch"])
    assert claims.loc[("C1", "best"), "verdict"] == "supported"
    assert claims.loc[("C2", "best"), "verdict"] == "undecided"


def test_missing_cells_say_why(paper: Profile, tmp_path: Path) -> None:
    cells = cells_of(paper, "table6")
    runs = tmp_path / "runs"
    finish(cells, runs, top1, skip=("-crd-", "-ab-", "-ft-", "-vid-", "-sp-"))
    by_name = {(cell.spec.method.name, cell.spec.seed): cell.spec for cell in cells["table6"] if cell.spec}  # type: ignore[union-attr]
    for seed in (0, 1):
        (runs / by_name["crd", seed].id).mkdir()
        (runs / by_name["crd", seed].id / "failed.json").write_text('{"message": "the disk | is full"}')
    under_way = runs / by_name["ab", 0].id
    under_way.mkdir()
    (under_way / "metrics.jsonl").write_text("".join(json.dumps({"epoch": i}) + "\n" for i in range(96)) + '{"epo')
    damaged = runs / by_name["vid", 0].id
    damaged.mkdir()
    (damaged / "result.json").write_text("{")
    text = write_report(paper, cells, tmp_path)["table6"]
    lines = {line.split(" | ")[0].strip("| "): line for line in text.splitlines() if line.startswith("| ")}
    assert lines["CRD"].endswith("| failed: the disk / is full |")
    assert lines["AB"].endswith("| 1 of 2: running or interrupted: 40 %; 1 of 2: not run |")
    assert lines["FT"].endswith("| not run |")
    assert "cannot read" in lines["VID"]
    assert lines["KD"].endswith("|  |")


def test_a_run_whose_teacher_failed_says_so(paper: Profile, tmp_path: Path) -> None:
    cells = cells_of(paper, "table6")
    teacher = next(needed for cell in cells["table6"] if cell.spec for needed in cell.spec.needs)
    folder = tmp_path / "runs" / teacher.id
    folder.mkdir(parents=True)
    (folder / "failed.json").write_text('{"message": "out of memory"}')
    frame = results_frame(cells, tmp_path / "runs")
    assert set(frame["why"][frame["role"] == "student"]) == {f"not run: it needs {teacher.id}, which failed"}
    assert "failed: out of memory" in set(frame["why"])


def test_the_report_is_the_same_bytes_twice(paper: Profile, tmp_path: Path) -> None:
    cells = cells_of(paper, "fig4a", "fig3b", "table1", "table6")
    finish(cells, tmp_path / "runs", top1)
    write_report(paper, cells, tmp_path)
    kinds = ("md", "csv", "tex", "png", "pdf")
    files = [tmp_path / f"{name}.{kind}" for name in cells for kind in kinds]
    files += [tmp_path / name for name in ("index.html", "claims.md", "claims.csv", "runs.csv")]
    before = {path: path.read_bytes() for path in files}
    assert all(len(content) > 100 for content in before.values())
    write_report(paper, cells, tmp_path)
    assert {path.name for path in files if path.read_bytes() != before[path]} == set()


def test_nothing_run_yet_is_a_report_too(paper: Profile, tmp_path: Path) -> None:
    names = [name for name in BENCHMARKS if name in paper.benchmarks]
    texts = write_report(paper, cells_of(paper, *names), tmp_path)
    assert all("| not run |" in text for text in texts.values())
    assert not list(tmp_path.glob("*.png"))
    assert (tmp_path / "index.html").exists()


def test_without_weights_the_figure_of_features_says_so(paper: Profile, tmp_path: Path) -> None:
    cells = cells_of(paper, "fig3a")
    finish(cells, tmp_path / "runs", top1)
    text = write_report(paper, cells, tmp_path)["fig3a"]
    assert "last.safetensors is not here" in text
    assert not (tmp_path / "fig3a.png").exists()


def test_latex_is_booktabs_with_the_best_in_bold() -> None:
    frame = made_frame("table3", {("KD", "vgg13/vgg8"): [70.0, 71.0], ("SSKD", "vgg13/vgg8"): [75.0, 76.0]})
    frame["row"] = frame["row"].replace("KD", "K_D&%")
    benchmark = BENCHMARKS["table3"]
    text = latex(summary(frame, benchmark), benchmark)
    assert text.startswith(r"\begin{tabular}{lrrr}")
    assert [text.count(rule) for rule in (r"\toprule", r"\midrule", r"\bottomrule", r"\cmidrule")] == [1, 1, 1, 1]
    assert r"\textbf{75.50} {\scriptsize$\pm$0.71} & 75.33 & \textbf{75.50}" in text
    assert r"K\_D\&\% & 70.50" in text
    widths = {line.count(" & ") - line.count(r"\&") * 0 for line in text.splitlines() if line.startswith(("K", "S"))}
    assert widths == {3}


def test_curves_are_thinned_and_keep_the_last_epoch(tmp_path: Path) -> None:
    path = tmp_path / "metrics.jsonl"
    lines = [json.dumps({"stage": "initial", "epoch": i, "loss": 1.0}) for i in range(1, 31)]
    lines += [json.dumps({"stage": "main", "epoch": i, "test_top1": float(i)}) for i in range(1, 241)]
    path.write_text("\n".join(lines) + "\n")
    curve = read_curve(path, points=60)
    assert 40 <= len(curve) <= 60
    assert curve[-1] == (240, 240.0)
    assert all(epoch == value for epoch, value in curve)
    path.write_text("\n".join(lines) + '\n{"stage": "ma')
    assert read_curve(path)[-1][0] > 230
    assert read_curve(tmp_path / "none.jsonl") == []
