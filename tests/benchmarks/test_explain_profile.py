"""run_all.py --profile NAME --explain: what would be trained, why, at what cost, and what it would decide."""

import re
from pathlib import Path

import pytest

from benchmarks.cli import main
from sskd.places import config_names


def explained(capsys: pytest.CaptureFixture[str], *options: str) -> str:
    """On one line, since it is wrapped."""
    assert main([*options, "--explain"]) == 0
    return " ".join(capsys.readouterr().out.split())


@pytest.mark.parametrize("name", sorted(set(config_names("profiles")) - {"paper", "smoke"}))
def test_every_profile_explains_itself(name: str, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    text = explained(capsys, "--profile", name, "--results", str(tmp_path))
    assert text.startswith(f"Profile {name}. ")
    for heading in ("What is trained: ", "Why: ", "How: ", "What it costs: ", "What it decides: "):
        assert heading in text
    assert "None of them are finished" in text
    assert re.search(r"[\d.]+ T multiply-adds \(", text)


def test_claims_that_the_seeds_can_decide_and_those_that_they_cannot(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    options = ["--profile", "short", "--results", str(tmp_path), "--only", "fig4a,comparison"]
    text = explained(capsys, *options)
    claim = "C8 (Figure 4a): With few images SSKD leads everywhere, by about 7 points at 25 %."
    assert f"{claim} 3 seeds planned: supported if every interval lies above its bound" in text
    assert "C9 (fig4b)" in text.partition("left open: ")[2]
    text = explained(capsys, *options, "--seeds", "0,1")
    assert f"{claim} Cannot be decided: 2 seeds planned, and an interval needs 3." in text
    text = explained(capsys, *options, "--only", "comparison")
    assert "None of the paper's claims" in text


def test_it_counts_what_the_plan_has(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    text = explained(capsys, "--profile", "demo", "--results", str(tmp_path), "--methods", "none,kd")
    assert "7 runs: 1 teacher, 6 students." in text
    assert "6 students: method Student, KD; pair resnet14/resnet8; 3 seeds." in text
    assert "Students: 4 epochs in batches of 32, sgd at 0.05 (step), augmentation standard, precision auto." in text


def test_what_is_finished_is_said_and_a_decided_claim_is_decided(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(Path(__file__).parents[2])  # where the committed results are
    text = explained(capsys, "--profile", "brief")
    assert re.search(r"\d+ of them are finished in results/brief/runs", text)
    assert "finished runs had" in text


@pytest.mark.slow
@pytest.mark.parametrize("name", ["paper", "smoke"])
def test_the_large_ones(name: str, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    text = explained(capsys, "--profile", name, "--results", str(tmp_path))
    decisions = text.partition("What it decides: ")[2]
    assert all(f"C{number} (" in decisions for number in range(1, 11))
    if name == "paper":
        assert "C1 (abstract, Table 4)" in decisions
        assert "Cannot be decided" not in decisions
        assert decisions.count("3 seeds planned") + decisions.count("5 seeds planned") == 9
        assert "left open: C6 (table5)." in decisions
    else:
        assert "Cannot be decided: 2 seeds planned" in decisions
