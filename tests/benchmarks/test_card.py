"""The comparability card: what differs within a table is refused and named, a waiver allows it and is shown."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from benchmarks.analysis.card_fields import PARTS, card_columns
from benchmarks.analysis.results_frame import results_frame
from benchmarks.profiles.profile import Profile
from benchmarks.profiles.read import read_profile
from benchmarks.report.write import write_report
from benchmarks.tables.benchmark import BENCHMARKS, Cell
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


def reported(profile: Profile, folder: Path, changes: Mapping[str, Mapping[str, Any]]) -> tuple[str, dict[str, Any]]:
    """The comparison and its card, of made results: each student has SAME but what ``changes`` says by method or by
    method and seed, under "measured_with" and "machine"."""
    cells = cells_of(profile)
    finish(cells, folder / "runs", lambda spec: 70.0 + spec.seed)
    for cell in cells["comparison"]:
        file = folder / "runs" / cell.spec.id / "result.json"
        result = json.loads(file.read_text())
        name = cell.spec.method.name if isinstance(cell.spec, StudentSpec) else "teacher"
        change = changes.get(f"{name} {cell.spec.seed}", changes.get(name, {}))
        result["measured_with"] = SAME | change.get("measured_with", {})
        result["machine"] |= {"packages": {"numpy": "2.0"}} | change.get("machine", {})
        file.write_text(json.dumps(result))
    text = write_report(profile, cells, folder)["comparison"]
    return text, json.loads((folder / "card.json").read_text())["tables"]["comparison"]


def line(text: str, row: str) -> list[str]:
    return next(line for line in text.splitlines() if line.startswith(f"| {row} |")).strip("| ").split(" | ")


@pytest.mark.parametrize(
    ("part", "measured_with", "machine"),
    [
        ("teacher's weights", {"teacher": "d" * 64}, {}),
        ("network", {"network": "d" * 64}, {}),
        ("training images", {"split": "d" * 64}, {}),
        ("normalisation", {"mean": [0.4]}, {}),
        ("torch", {}, {"torch": "1.0"}),
        ("numpy", {}, {"packages": {"numpy": "1.0"}}),
        ("version of the suite", {}, {"version": "0.0.1"}),
    ],
)
def test_what_differs_is_refused_and_named(
    tmp_path: Path, part: str, measured_with: dict[str, Any], machine: dict[str, Any]
) -> None:
    same = {name: {"machine": {"version": "0.1.0"}} for name in ("none", "kd")}
    change = {"measured_with": measured_with, "machine": {"version": "0.1.0"} | machine}
    text, card = reported(profile(), tmp_path, same | {"sskd": change})
    refused = line(text, "SSKD")
    assert refused[2] == "0"  # seeds
    assert f"refused: {part} differs" in refused[-1]
    assert line(text, "KD")[2] == "3"
    assert "SSKD - KD" not in text  # nothing is compared with it
    assert {entry["row"] for entry in card["refused"]} == {"SSKD"}
    assert [entry["part"] for entry in card["fields"] if entry["outcome"] == "refused"] == [part]


def test_settings_of_the_spec_are_compared_too(tmp_path: Path) -> None:
    """A batch of another size is a choice of the profile's, which the table asks to be owned."""
    own = 'method_recipes={"sskd": {"batch_size": 128}}'
    text, _ = reported(profile(own), tmp_path / "refused", {})
    assert "batch per process differs: 128 (of 128), and 64 (of 64) of 6 others" in line(text, "SSKD")[-1]
    text, card = reported(profile(own, 'waivers={"batch": "SSKD has four views"}'), tmp_path / "waived", {})
    assert line(text, "SSKD")[2] == "3"
    assert "differ in batch per process: 64 (of 64) (6), 128 (of 128) (3); waived: SSKD has four views." in text
    assert "waived" in {entry["outcome"] for entry in card["fields"]}
    page = (tmp_path / "waived" / "index.html").read_text()
    assert "waived: SSKD has four views" in page
    assert "<td>batch per process</td><td>64 (of 64) (6); 128 (of 128) (3) [waived]</td>" in page


def test_one_seed_of_another_teacher_is_refused(tmp_path: Path) -> None:
    text, card = reported(profile(), tmp_path, {"kd 1": {"measured_with": {"teacher": "d" * 64}}})
    assert line(text, "KD")[2] == "2"
    assert "1 of 3: refused: teacher's weights differs: dddddddddddd, and aaaaaaaaaaaa" in line(text, "KD")[-1]
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


@pytest.mark.parametrize("name", ["short", "brief"])
def test_committed_results_are_comparable(name: str, tmp_path: Path) -> None:
    known = read_profile(name, [])
    benchmarks = {each: BENCHMARKS[each].cells(SpecBuilder(known.for_benchmark(each))) for each in known.benchmarks}
    frame = results_frame(benchmarks, RESULTS / name / "runs")
    from benchmarks.analysis.card import compared

    checked, cards = compared(frame, known)
    assert (frame["state"] == "finished").sum() == (checked["state"] == "finished").sum() > 10
    assert all(not card.refused for card in cards.values())


def test_waivers_are_of_known_fields_and_say_why() -> None:
    for wrong in ('waivers={"rate": "x"}', 'waivers={"batch": ""}'):
        with pytest.raises(UserError, match="waivers"):
            profile(wrong)


def test_every_part_has_a_value(tmp_path: Path) -> None:
    spec = cells_of(profile())["comparison"][-1].spec
    assert list(card_columns(spec, {})) == [part.column for part in PARTS]


def test_a_networks_fingerprint() -> None:
    assert network_sha256("resnet8", 10) == network_sha256("resnet8", 10)
    others = {network_sha256("resnet8", 10), network_sha256("resnet8", 11), network_sha256("resnet14", 10)}
    assert len(others) == 3
