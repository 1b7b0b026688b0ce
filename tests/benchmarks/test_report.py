"""Tables and texts from run folders, whole, partial and damaged."""

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from benchmarks.analysis.frame import results_frame
from benchmarks.analysis.setting import describe_setting
from benchmarks.profiles.profile import Profile
from benchmarks.profiles.read import read_profile
from benchmarks.report.tables import escape, latex, markdown, notes, summary
from benchmarks.report.write import write_report
from benchmarks.tables.benchmark import BENCHMARKS, with_measured
from tests.benchmarks.made import cells_of, finish, made_frame, top1


@pytest.fixture
def paper() -> Profile:
    return read_profile("paper", ["seeds=[0,1]"])


def test_tables_hold_both_epochs_the_papers_value_and_the_difference(reported: Path) -> None:
    """The second seed of SSKD has 75.1, the first 74; the last epoch nine tenths."""
    text = (reported / "table3.md").read_text()
    entry = pd.read_csv(reported / "table3.csv").set_index(["row", "column"]).loc[("SSKD", "vgg13/vgg8")]
    assert entry["best mean"] == pytest.approx(74.55)
    assert entry["last mean"] == pytest.approx(0.9 * 74.55)
    assert entry["best sd"] == pytest.approx(1.1 * 0.5**0.5)
    assert entry["seeds"] == 2
    assert entry["best paper"] == 75.33
    assert entry["best difference"] == pytest.approx(74.55 - 75.33)
    assert "| SSKD | vgg13/vgg8 | 2 | 74.55 | 0.78 | 75.33 | -0.78 |" in text
    assert "average over 5 columns: SSKD - AT: +4.05, 2 seeds, better in 100 % of seed pairs" in text
    claims = pd.read_csv(reported / "claims.csv").set_index(["id", "epoch"])
    assert set(claims["verdict"]) == {"undecided"}
    assert "runs are missing (SSKD - CRD" in claims.loc[("C2", "last"), "text"]


def test_missing_cells_say_why(paper: Profile, tmp_path: Path) -> None:
    cells = cells_of(paper, "table6")
    finish(cells, tmp_path, top1, skip=("-crd-", "-ab-", "-ft-", "-vid-", "-sp-"))
    damages = {
        ("crd", 0): ("failed.json", b'{"message": "the disk | is full"}'),
        ("crd", 1): ("failed.json", b'{"message": "the disk | is full"}'),
        ("ab", 0): ("metrics.jsonl", b"".join(b'{"epoch": %d}\n' % i for i in range(96)) + b'{"e'),
        ("vid", 0): ("result.json", b"{"),
        ("sp", 0): ("failed.json", b"\xff"),
    }
    by_name = {(cell.spec.learns, cell.spec.seed): tmp_path / cell.spec.id for cell in cells["table6"]}
    for run, (name, content) in damages.items():
        by_name[run].mkdir()
        (by_name[run] / name).write_bytes(content)
    frame, benchmark = results_frame(cells, tmp_path), BENCHMARKS["table6"]
    text = markdown(summary(frame[frame["benchmark"] == "table6"], benchmark), benchmark)
    lines = {line.split(" | ")[0].strip("| "): line for line in text.splitlines()}
    assert lines["CRD"].endswith("| failed: the disk \\| is full |")
    assert lines["AB"].endswith("| 1 of 2: running or interrupted: 40 %; 1 of 2: not run |")
    assert lines["FT"].endswith("| not run |")
    assert f"1 of 2: failed: cannot read {by_name['vid', 0]}" in lines["VID"]
    assert "1 of 2: failed: " in lines["SP"]
    assert lines["KD"].endswith("|  |")
    assert [lines[row].split(" | ")[2] for row in ("KD", "AB", "CRD")] == ["2", "0", "0"]  # seeds


def test_a_run_whose_teacher_failed_says_so(paper: Profile, tmp_path: Path) -> None:
    cells = cells_of(paper, "table6")
    teacher = next(needed for cell in cells["table6"] if cell.spec for needed in cell.spec.dependencies)
    (tmp_path / teacher.id).mkdir()
    (tmp_path / teacher.id / "failed.json").write_text('{"message": "out of memory"}')
    frame = results_frame(cells, tmp_path)
    assert set(frame["why"][frame["role"] == "student"]) == {f"not run: it needs {teacher.id}, which failed"}
    assert "failed: out of memory" in set(frame["why"])


def test_nothing_run_yet_is_a_report_too(tmp_path: Path) -> None:
    profile = read_profile("paper", ["seeds=[0]"])
    cells = cells_of(profile, *(name for name in BENCHMARKS if name in profile.benchmarks))
    assert all("| not run |" in text for text in write_report(profile, cells, tmp_path).texts.values())
    assert not list(tmp_path.glob("*.png"))
    assert (tmp_path / "index.html").exists()


def test_the_figure_of_features_has_the_runs_with_weights_or_a_cache(paper: Profile, tmp_path: Path) -> None:
    """A damaged cache of features is one run's trouble."""
    cells = cells_of(paper, "fig3a")
    finish(cells, tmp_path / "runs", top1)
    caches = [tmp_path / "runs" / cell.spec.id / "features.npz" for cell in cells["fig3a"]]
    caches[0].write_bytes(b"PK\x03\x04 cut off")
    assert write_report(paper, cells, tmp_path).texts["fig3a"].count("no features:") == 3
    assert not (tmp_path / "fig3a.png").exists()
    for cache, silhouette in zip(caches[-2:], (0.25, 0.5), strict=True):
        np.savez(cache, vectors=np.eye(6, dtype=np.float32), labels=np.arange(6) % 2, silhouette=silhouette)
    text = write_report(paper, cells, tmp_path).texts["fig3a"]
    assert text.count("no features:") == 2
    assert "| SSKD | vgg13/vgg8 | 2 | 0.375 | 0.177 |" in text
    assert (tmp_path / "fig3a.png").exists()
    assert ["layout" in np.load(cache) for cache in caches[-2:]] == [True, False]  # one seed is drawn


def test_latex_has_the_best_underlined_and_other_numbers_of_seeds() -> None:
    frame = made_frame("table3", {("KD", "vgg13/vgg8"): [70.0, 71.0], ("SSKD", "vgg13/vgg8"): [75.0, 76.0]})
    frame["row"] = frame["row"].replace("KD", "K_D&%")
    text = latex(summary(frame, BENCHMARKS["table3"]), BENCHMARKS["table3"])
    assert r"\underline{75.50} {\scriptsize$\pm$0.71} & 75.33 & \underline{75.50}" in text
    assert r"K\_D\&\% & 70.50" in text
    assert {line.count(" & ") for line in text.splitlines() if line.startswith(("K", "S"))} == {3}
    few = {("KD", "25%"): [1.0, 2.0], ("SSKD", "25%"): [3.0], ("KD", "50%"): [1.0, 2.0], ("SSKD", "50%"): [3.0, 4.0]}
    text = latex(summary(made_frame("fig4a", few), BENCHMARKS["fig4a"]), BENCHMARKS["fig4a"])
    assert r"over 2 seeds (1 of SSKD in 25\%).\par" in text


@pytest.mark.parametrize("name", ["table2", "table3", "table6", "fig3b"])
def test_what_was_trained_comes_before_what_it_stands_for(name: str) -> None:
    """Covers every form of a table, with another pair of networks than the paper's in all columns."""
    small = dict.fromkeys(("vgg13/vgg8", "resnet56/resnet20", "wrn_40_2/wrn_16_2"), "resnet14/resnet8")
    profile = read_profile("smoke", ["seeds=[0]", f"pairs={json.dumps(small)}", "overrides={}"])
    columns = {cell.column for cell in cells_of(profile, name)[name]}
    replaced = {f"resnet14/resnet8 for {pair}" for pair in small} & columns
    assert replaced
    assert not columns & set(small)
    assert all(column in replaced or " for " not in column for column in columns)
    values = {(row, "vgg13/vgg8"): [70.0, 71.0] for row in ("KD", "SSKD")}
    frame = made_frame(name, values, "kl" if name == "table6" else "top1", small)
    benchmark = BENCHMARKS[name]
    table = summary(frame, benchmark)
    under = notes(frame, benchmark, table)
    assert markdown(table, benchmark).count("| resnet14/resnet8 for vgg13/vgg8 |") == 2
    assert under[0].startswith("On CIFAR-100 (resnet14/resnet8 for vgg13/vgg8)")
    assert escape(under[0]) in latex(table, benchmark, under)
    if name == "table3":
        published = table[["best paper", "best other protocol"]]  # they are still found by the name of the pair
        assert published.notna().any(axis=1).all()
        assert table["best difference"].isna().all()


def test_a_profile_with_other_rates_fractions_and_methods_can_be_reported(tmp_path: Path) -> None:
    """None of the paper's columns, one rate of noise, and no reference beside KD."""
    names = ["comparison", "equal_time", "fig4a", "fig4b"]
    own = ["noise_rates=[0.3]", "fractions=[0.001,0.002]", "methods=[kd]", f"benchmarks={json.dumps(names)}"]
    profile = read_profile("miniature", ["seeds=[0,1]", *own])
    cells = cells_of(profile, *profile.benchmarks)
    finish(cells, tmp_path / "runs", top1)
    assert set(write_report(profile, cells, tmp_path).texts) == set(names)
    claims = pd.read_csv(tmp_path / "claims.csv").set_index(["id", "epoch"])
    assert "only 30% was planned" in claims.loc[("C9", "best"), "text"]
    assert set(pd.read_csv(tmp_path / "fig4a.csv")["column"]) == {"0.1%", "0.2%"}


def test_captions_say_what_each_setting_really_had(tmp_path: Path) -> None:
    """Captions describe only finished runs if there are any: in the last figure, 25 % has no runs yet."""
    profile = read_profile("miniature", ["seeds=[0]"])
    cells = cells_of(profile, *profile.benchmarks)

    def said(name: str) -> str:
        frame = results_frame({name: cells[name]}, tmp_path)
        return describe_setting(frame[frame["benchmark"] == name])

    few = "10%: 75 of 240 epochs, 10% of the training images; 25%: 30 of 240 epochs, 25% of the training images"
    assert said("fig4a") == f"On CIFAR-100 (resnet20/resnet8 for vgg13/vgg8; {few})"
    longer = "112 of 240 epochs (KD), 30 (SSKD)"
    assert f"25% of the training images; equal epochs: 30 of 240 epochs; equal time: {longer}" in said("equal_time")
    assert said("comparison") == "On CIFAR-100 (30 of 240 epochs; 25% of the training images)"
    finish({"fig4a": [cell for cell in cells["fig4a"] if cell.column == "10%"]}, tmp_path, top1)
    some = "resnet20/resnet8 for vgg13/vgg8; 75 of 240 epochs; 10% of the training images"
    assert said("fig4a") == f"On CIFAR-100 ({some})"


def test_what_held_out_images_chose_stands_first_and_decides(tmp_path: Path) -> None:
    """SSKD is ahead by 10 points at the best epoch on the test images, and behind at the one that was chosen."""
    profile = read_profile("paper", ["seeds=[0,1,2]", "split.holdout=0.1", "benchmarks=[fig4a]", "fractions=[0.25]"])
    cells, runs = cells_of(profile, "fig4a"), tmp_path / "runs"
    finish(cells, runs, lambda spec: 60 + 10 * ("sskd" in spec.id) + spec.seed * (1 + 0.1 * ("-kd-" in spec.id)))
    for path in runs.glob("student-*/result.json"):
        result = json.loads(path.read_text())
        chosen = {"epoch": 1, "test_top1": 30 - result["best"]["test_top1"] / 100, "held_out_top1": 20.0}
        path.write_text(json.dumps(result | {"chosen": chosen | {"test_images": 10000}}))
    text = write_report(profile, cells, tmp_path).texts["fig4a"]
    assert "| seeds | chosen mean | chosen sd | held out mean | held out sd | best mean |" in text
    assert "| SSKD | 25% | 3 | 29.29 | 0.01 | 20.00 | 0.00 |" in text
    found = pd.read_csv(tmp_path / "runs.csv")
    assert set(found["chosen_held_out_top1"].dropna()) == {20.0}
    assert set(found["chosen_epoch"].dropna()) == {1}
    claims = pd.read_csv(tmp_path / "claims.csv").set_index(["id", "epoch"])
    assert claims.loc[("C8", "chosen"), "verdict"] == "contradicted"
    assert claims.loc[("C8", "best"), "verdict"] != "contradicted"
    assert "best validation epoch" in (tmp_path / "claims.md").read_text()


@pytest.mark.parametrize("other", ["table3", "fig4b", "modern"])
def test_a_benchmark_with_a_holdout_does_not_change_the_others(other: str) -> None:
    plain = made_frame(other, {("KD", "vgg13/vgg8"): [70.0, 71.0]})
    held = made_frame("fig4a", {("KD", "25%"): [60.0, 61.0]}).assign(chosen_top1=59.0, chosen_held_out_top1=58.0)
    frame = pd.concat([plain, held], ignore_index=True)
    assert with_measured(BENCHMARKS[other], frame) == BENCHMARKS[other]
    added = with_measured(BENCHMARKS["fig4a"], frame).measures[:2]
    assert [measure.label for measure in added] == ["chosen", "held out"]
    assert with_measured(BENCHMARKS["table6"], frame.assign(benchmark="table6")) == BENCHMARKS["table6"]


def test_differences_and_controls_are_in_the_report(decided: Path) -> None:
    assert "SSKD - KD: **+19.95 [" in (decided / "comparison.md").read_text()
    claims, page = (decided / "claims.md").read_text(), (decided / "index.html").read_text()
    assert "KD against itself: 1 of 1 comparison called a difference" in claims
    for text in (claims, page):
        assert "KD - KD shuffled, resnet56/resnet20" in text
    assert "With randomly permuted labels" in page


def test_seconds_spent_are_in_the_report(decided: Path) -> None:
    """SSKD's teacher and head took 12 each; the made epochs have no seconds."""
    spent = pd.read_csv(decided / "spent.csv").set_index(["benchmark", "row", "epoch"])
    assert spent.loc[("comparison", "Student", 3), ["seconds", "seeds"]].tolist() == [0, 3]
    assert spent.loc[("comparison", "SSKD", 3), ["seconds", "seeds"]].tolist() == [24, 3]
    assert spent.loc[("comparison", "KD again", 3), "seeds"] == 2  # the third is damaged
    assert "| comparison | resnet56/resnet20 | SSKD | 3 | 24 s | 24 s | " in (decided / "spent.md").read_text()
    assert (decided / "spent.png").read_bytes().startswith(b"\x89PNG")
    page = (decided / "index.html").read_text()
    section = page[page.index('<section id="spent">') :].split("</section>")[0]
    assert "24 s" in section
    assert section.count("data:image/png;base64,") == 1
    (broken,) = (decided / "runs").glob("student-resnet20-kd_again-*-s2-*")
    for text in (page, (decided / "spent.md").read_text()):
        assert f"Left out, because their metrics.jsonl cannot be read: {broken.name}." in text
