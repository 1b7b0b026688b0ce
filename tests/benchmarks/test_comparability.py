"""The comparability card: another question is refused and named, other rounding or code is said and drops nothing."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from benchmarks.analysis.comparability import TableComparability, exclude_incomparable
from benchmarks.analysis.comparability_fields import ITEMS, comparability_columns
from benchmarks.analysis.frame import results_frame
from benchmarks.profiles.profile import Profile
from benchmarks.profiles.read import read_profile
from benchmarks.report.comparability import comparability_notes
from benchmarks.report.tables import markdown, summary
from benchmarks.report.write import write_report
from benchmarks.tables.benchmark import BENCHMARKS
from benchmarks.tables.cell import Cell
from benchmarks.tables.spec_builder import SpecBuilder
from sskd.errors import UserError
from sskd.networks.fingerprint import network_sha256
from sskd.runs.spec import StudentSpec
from tests.benchmarks.made import finish

RESULTS = Path(__file__).parents[2] / "results"
SAME = {"teacher": "a" * 64, "network": "b" * 64, "split": "c" * 64, "mean": [0.5], "std": [0.2], "image_size": 32}


def profile(*settings: str) -> Profile:
    return read_profile("paper", ["methods=[none,kd,sskd]", "pair=resnet56/resnet20", *settings])


def cells_of(profile: Profile) -> dict[str, list[Cell]]:
    return {"comparison": BENCHMARKS["comparison"].cells(SpecBuilder(profile.for_benchmark("comparison")))}


def measured(
    profile: Profile, folder: Path, changes: Mapping[str, Mapping[str, Any]]
) -> tuple[dict[str, list[Cell]], pd.DataFrame, TableComparability]:
    """The comparison's cells, frame and card, of made results: each student has SAME but what ``changes`` says by
    method or by method and seed, under "measured_with" and "machine"; other keys are the result's."""
    cells = cells_of(profile)
    finish(cells, folder / "runs", lambda spec: 70.0 + spec.seed)
    for cell in cells["comparison"]:
        file = folder / "runs" / cell.spec.id / "result.json"
        result = json.loads(file.read_text())
        name = cell.spec.method.name if isinstance(cell.spec, StudentSpec) else "teacher"
        change = changes.get(f"{name} {cell.spec.seed}", changes.get(name, {}))
        result["measured_with"] = SAME | change.get("measured_with", {})
        result["machine"] |= {"packages": {"numpy": "2.0"}, "version": "0.1.0"} | change.get("machine", {})
        result |= {key: value for key, value in change.items() if key not in ("measured_with", "machine")}
        file.write_text(json.dumps(result))
    frame, cards = exclude_incomparable(results_frame(cells, folder / "runs"), profile)
    return cells, frame[frame["benchmark"] != ""], cards["comparison"]


def reported(profile: Profile, folder: Path, changes: Mapping[str, Mapping[str, Any]]) -> tuple[str, dict[str, Any]]:
    """The table of ``measured`` with the card's notes under it, and the card as card.json has it."""
    _, frame, card = measured(profile, folder, changes)
    benchmark = BENCHMARKS["comparison"]
    lines = [markdown(summary(frame, benchmark), benchmark), *comparability_notes(card, profile.waivers)]
    return "\n".join(lines), card.model_dump(mode="json")


def line(text: str, row: str) -> list[str]:
    return next(line for line in text.splitlines() if line.startswith(f"| {row} |")).strip("| ").split(" | ")


@pytest.mark.parametrize(
    ("part", "measured_with"),
    [
        ("teacher's weights", {"teacher": "d" * 64}),
        ("network", {"network": "d" * 64}),
        ("training images", {"split": "d" * 64}),
        ("normalisation", {"mean": [0.4]}),
        ("pixels", {"pixels": "d" * 64}),
    ],
)
def test_another_question_is_refused_and_named(tmp_path: Path, part: str, measured_with: dict[str, Any]) -> None:
    same = {name: {"measured_with": {"pixels": "e" * 64}} for name in ("none", "kd")}
    change = {"measured_with": {"pixels": "e" * 64} | measured_with}
    text, card = reported(profile(), tmp_path, same | {"sskd": change})
    refused = line(text, "SSKD")
    assert refused[2] == "0"  # seeds
    assert f"refused: {part} differs" in refused[-1]
    assert line(text, "KD")[2] == "3"
    assert {entry["row"] for entry in card["refused"]} == {"SSKD"}
    assert [entry["part"] for entry in card["fields"] if entry["outcome"] == "refused"] == [part]


@pytest.mark.parametrize(
    ("part", "field", "words", "change"),
    [
        ("torch", "packages", "torch 2.14.0, not 2.14.1", {"machine": {"torch": "2.14.0+cpu"}}),
        ("torchvision", "packages", "torchvision 0.28.0, not 0.29.1", {"machine": {"torchvision": "0.28.0"}}),
        ("numpy", "packages", "numpy 1.0, not 2.0", {"machine": {"packages": {"numpy": "1.0"}}}),
        ("precision", "precision", "precision bf16, not fp32", {"precision": "bf16"}),
        ("version of the suite", "version", "suite 0.0.1, not 0.1.0", {"machine": {"version": "0.0.1"}}),
        ("head's weights", "head", "head's weights ffffffffffff, not", {"measured_with": {"head": "f" * 64}}),
    ],
)
def test_other_rounding_or_code_is_said_and_drops_nothing(
    tmp_path: Path, part: str, field: str, words: str, change: dict[str, Any]
) -> None:
    """One seed that was added later. With ``strict`` the same table refuses it."""
    packages = {"torch": "2.14.1+cu130", "torchvision": "0.29.1+cu130"}
    usual = {name: {"machine": packages, "measured_with": {"head": "e" * 64}} for name in ("none", "kd", "sskd")}
    own = usual["sskd"] | change
    changes = usual | {"sskd 1": own | {"machine": packages | own["machine"]}}
    text, card = reported(profile(), tmp_path / "said", changes)
    cells = line(text, "SSKD")
    assert cells[2] == "3"
    assert cells[-1].startswith("1 of 3: ")
    assert words in cells[-1]
    assert line(text, "KD")[2] == "3"
    assert words not in " | ".join(line(text, "KD"))
    assert text.split("| --- |")[-1].count(f"differ in {part}: ") == 1  # under the table
    assert card["refused"] == []
    text, card = reported(profile(f"strict=[{field}]"), tmp_path / "strict", changes)
    assert line(text, "SSKD")[2] == "2"
    assert [entry["part"] for entry in card["fields"] if entry["outcome"] == "refused"] == [part]


@pytest.mark.parametrize("build", ["2.14.1", "2.14.1+cpu", "2.14.1+cu121", "2.14.1+rocm6.3"])
def test_another_build_of_one_version_is_no_difference(tmp_path: Path, build: str) -> None:
    every = {name: {"machine": {"torch": "2.14.1+cu130"}} for name in ("none", "kd", "sskd")}
    text, card = reported(profile("strict=[packages]"), tmp_path, every | {"kd 2": {"machine": {"torch": build}}})
    assert line(text, "KD")[2] == "3"
    assert "differs" not in text
    assert {entry["outcome"] for entry in card["fields"] if entry["field"] == "packages"} == {"equal"}


def test_strict_is_of_fields_that_are_only_said(tmp_path: Path) -> None:
    for wrong in ("strict=[batch]", "strict=[torch]", "strict=[packages, packages]"):
        with pytest.raises(UserError, match="strict"):
            profile(wrong)


def test_settings_of_the_spec_are_compared_too(tmp_path: Path) -> None:
    """A batch of another size is a choice of the profile's, which the table asks to be owned."""
    own = 'method_recipes={"sskd": {"batch_size": 128}}'
    text, _ = reported(profile(own), tmp_path / "refused", {})
    assert "batch per process differs: 128 (of 128), but 64 (of 64) in 6 other" in line(text, "SSKD")[-1]
    waived = profile(own, 'waivers={"batch": "SSKD has four views"}')
    cells, _, known = measured(waived, tmp_path / "waived", {})
    card = known.model_dump(mode="json")
    text = write_report(waived, cells, tmp_path / "waived").texts["comparison"]
    assert line(text, "SSKD")[2] == "3"
    assert "differ in batch per process: 64 (of 64) (6), 128 (of 128) (3); waived: SSKD has four views." in text
    assert "waived" in {entry["outcome"] for entry in card["fields"]}
    page = (tmp_path / "waived" / "index.html").read_text()
    assert "waived: SSKD has four views" in page
    assert "<td>batch per process</td><td>64 (of 64) (6); 128 (of 128) (3) [waived]</td>" in page


def test_one_seed_of_another_teacher_is_refused(tmp_path: Path) -> None:
    text, card = reported(profile(), tmp_path, {"kd 1": {"measured_with": {"teacher": "d" * 64}}})
    assert line(text, "KD")[2] == "2"
    assert "1 of 3: refused: teacher's weights differs: dddddddddddd, but aaaaaaaaaaaa" in line(text, "KD")[-1]
    assert len(card["refused"]) == 1


def test_every_seed_may_have_its_teacher_where_the_profile_says_so(tmp_path: Path) -> None:
    seeds = {
        f"{name} {seed}": {"measured_with": {"teacher": str(seed) * 64}} for name in ("kd", "sskd") for seed in range(3)
    }
    text, card = reported(profile("teacher_seeds=true"), tmp_path, seeds)
    assert line(text, "KD")[2] == line(text, "SSKD")[2] == "3"
    assert card["refused"] == []


def test_another_commit_or_machine_is_shown(tmp_path: Path) -> None:
    text, card = reported(profile(), tmp_path, {"sskd": {"machine": {"commit": "def", "device": "another"}}})
    assert line(text, "SSKD")[2] == "3"
    assert "differ in commit: abc (6), def (3)." in text
    assert "differ in device" in text
    assert card["refused"] == []


def test_what_is_not_recorded_is_no_difference(tmp_path: Path) -> None:
    nothing = {"measured_with": dict.fromkeys(SAME), "machine": {"torch": None, "packages": None}}
    text, card = reported(profile(), tmp_path, {"kd": nothing})
    assert line(text, "KD")[2] == "3"
    assert card["refused"] == []
    assert {entry["part"]: entry["not_recorded"] for entry in card["fields"]}["teacher's weights"] == 3


def test_committed_results_are_comparable() -> None:
    known = read_profile("miniature", [])
    benchmarks = {each: BENCHMARKS[each].cells(SpecBuilder(known.for_benchmark(each))) for each in known.benchmarks}
    frame = results_frame(benchmarks, RESULTS / "miniature" / "runs")
    checked, cards = exclude_incomparable(frame, known)
    assert (frame["state"] == "finished").sum() == (checked["state"] == "finished").sum() > 10
    assert all(not card.refused for card in cards.values())


def test_waivers_are_of_known_fields_and_say_why() -> None:
    for wrong in ('waivers={"rate": "x"}', 'waivers={"batch": ""}'):
        with pytest.raises(UserError, match="waivers"):
            profile(wrong)


def test_every_part_has_a_value(tmp_path: Path) -> None:
    spec = cells_of(profile())["comparison"][-1].spec
    assert list(comparability_columns(spec, {})) == [part.column for part in ITEMS]


def test_a_networks_fingerprint() -> None:
    assert network_sha256("resnet8", 10) == network_sha256("resnet8", 10)
    others = {network_sha256("resnet8", 10), network_sha256("resnet8", 11), network_sha256("resnet14", 10)}
    assert len(others) == 3
