"""The command line: plans, skips, reports, and answers to bad input."""

import json
import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from benchmarks.commands.main import main

TINY: dict[str, Any] = {
    "about": "a test",
    "dataset": {"name": "digits"},
    "seeds": [0, 1],
    "pair": "resnet8/resnet8",
    "split": {"fraction": 0.05},
    "head_split": {"fraction": 0.05},
    "recipe": {"epochs": 1, "batch_size": 32, "precision": "fp32"},
    "teacher_recipe": {"epochs": 1, "batch_size": 256, "precision": "fp32"},
    "head_recipe": {"epochs": 1, "batch_size": 32, "precision": "fp32"},
    "methods": ["none", "kd", "sskd"],
}


@pytest.fixture
def profile(tmp_path: Path) -> Path:
    path = tmp_path / "tiny.yaml"
    path.write_text(yaml.safe_dump(TINY))
    return path


def run(profile: Path, tmp_path: Path, *options: str) -> int:
    return main([*options, "--profile", str(profile), "--results", str(tmp_path / "results")])


def test_lost_weights_are_trained_again_where_they_are_needed(
    profile: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Results are committed without weights; a clone of them can be gone on with."""
    monkeypatch.setattr("benchmarks.commands.run.write", lambda request: None)  # the report takes a while
    options = ["--seeds", "0", "--methods", "sskd"]
    assert run(profile, tmp_path, *options) == 0
    runs = tmp_path / "results" / "tiny" / "runs"
    (head,) = runs.glob("head-*")
    before = json.loads((head / "result.json").read_text())
    for weights in runs.glob("*/*.safetensors"):
        weights.unlink()
    assert run(profile, tmp_path, *options) == 0  # nothing needs them
    assert "again" not in capsys.readouterr().out
    assert run(profile, tmp_path, "plan", "--seeds", "0,1", "--methods", "sskd") == 0
    assert "head-resnet8-contrastive-digits-s0" in (shown := capsys.readouterr().out)
    assert shown.count("weights lost") == 2  # the teacher's and the head's: the second student needs both
    assert (head / "result.json").exists()

    assert run(profile, tmp_path, "--seeds", "0,1", "--methods", "sskd") == 0
    assert capsys.readouterr().out.count("it is trained again") == 2
    assert json.loads((head / "result.json").read_text())["last"] == pytest.approx(before["last"])
    assert json.loads((head.with_name(f"{head.name}.previous") / "result.json").read_text()) == before
    assert (head / "last.safetensors").exists()


def test_plan_run_skip_and_report(profile: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(profile, tmp_path, "plan", "--json") == 0
    plan = json.loads(capsys.readouterr().out)["runs"]
    assert [(row["stage"], row["state"]) for row in plan] == [
        *[(0, "absent")] * 3,  # a teacher, and the students without one
        *[(1, "absent")] * 3,
        *[(2, "absent")] * 2,
    ]
    assert not (tmp_path / "results" / "tiny" / "runs").exists()
    one = ("--seeds", "0", "--name", "one")
    assert run(profile, tmp_path, *one) == 0
    shown = capsys.readouterr().out
    assert "[5/5]" in shown
    assert "SSKD - KD:" in shown
    table = (tmp_path / "results" / "tiny" / "reports" / "one" / "comparison.md").read_text()
    assert all(f"| {row} |" in table for row in ("Teacher", "Student", "KD", "SSKD"))
    assert run(profile, tmp_path, *one) == 0
    assert "5 runs, 5 of them finished" in capsys.readouterr().out
    assert run(profile, tmp_path, "report", "--json", *one) == 0
    assert json.loads(capsys.readouterr().out)["benchmark"] == "comparison"


def test_a_failed_run_stops_neither_others_nor_the_report(
    profile: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The head cannot be trained (its rate is too large): SSKD is not started and says why; KD is there."""
    too_fast = ("head_recipe.learning_rate=1000", "head_recipe.weight_decay=100", "head_recipe.epochs=12")
    assert run(profile, tmp_path, "--set", *too_fast, "seeds=[0]", "methods=[kd, sskd]") == 2
    assert "head-resnet8-contrastive-digits-s0" in (error := capsys.readouterr().err)
    assert "diverged" in error
    (report,) = (tmp_path / "results" / "tiny" / "reports").iterdir()
    (row,) = [line for line in (report / "comparison.md").read_text().splitlines() if line.startswith("| KD |")]
    assert re.search(r"\d\.\d\d", row)
