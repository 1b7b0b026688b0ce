"""The command line: plans, skips, reports, and answers to bad input."""

import json
import re
from pathlib import Path

import pytest

from tests.cluster.suite import Suite


@pytest.fixture
def suite(tmp_path: Path) -> Suite:
    return Suite(tmp_path, seeds=[0, 1])


def test_lost_weights_are_trained_again_where_they_are_needed(
    suite: Suite, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Results are committed without weights; a clone of them can be gone on with."""
    monkeypatch.setattr("benchmarks.commands.run.write", lambda request: None)  # the report takes a while
    options = ["--seeds", "0", "--methods", "sskd"]
    assert suite.run(*options) == 0
    head = suite.folder("head")
    before = json.loads((head / "result.json").read_text())
    for weights in suite.runs.glob("*/*.safetensors"):
        weights.unlink()
    assert suite.run(*options) == 0  # nothing needs them
    assert "again" not in capsys.readouterr().out
    assert suite.run("plan", "--seeds", "0,1", "--methods", "sskd") == 0
    assert "head-resnet8-contrastive-digits-s0" in (shown := capsys.readouterr().out)
    assert shown.count("weights lost") == 2  # the teacher's and the head's: the second student needs both
    assert (head / "result.json").exists()

    assert suite.run("--seeds", "0,1", "--methods", "sskd") == 0
    assert capsys.readouterr().out.count("it is trained again") == 2
    assert json.loads((head / "result.json").read_text())["last"] == pytest.approx(before["last"])
    assert json.loads((head.with_name(f"{head.name}.previous") / "result.json").read_text()) == before
    assert (head / "last.safetensors").exists()


def test_plan_run_skip_and_report(suite: Suite, capsys: pytest.CaptureFixture[str]) -> None:
    assert suite.run("plan", "--json") == 0
    plan = json.loads(capsys.readouterr().out)["runs"]
    assert [(row["stage"], row["state"]) for row in plan] == [
        *[(0, "absent")] * 3,  # a teacher, and the students without one
        *[(1, "absent")] * 3,
        *[(2, "absent")] * 2,
    ]
    assert not suite.runs.exists()
    one = ("--seeds", "0", "--name", "one")
    assert suite.run(*one) == 0
    shown = capsys.readouterr().out
    assert "[5/5]" in shown
    assert "SSKD - KD:" in shown
    table = (suite.results / "tiny" / "reports" / "one" / "comparison.md").read_text()
    assert all(f"| {row} |" in table for row in ("Teacher", "Student", "KD", "SSKD"))
    assert suite.run(*one) == 0
    assert "5 runs, 5 of them finished" in capsys.readouterr().out
    assert suite.run("report", "--json", *one) == 0
    assert json.loads(capsys.readouterr().out)["benchmark"] == "comparison"


def test_a_failed_run_stops_neither_others_nor_the_report(suite: Suite, capsys: pytest.CaptureFixture[str]) -> None:
    """The head cannot be trained (its rate is too large): SSKD is not started and says why; KD is there."""
    too_fast = ("head_recipe.learning_rate=1000", "head_recipe.weight_decay=100", "head_recipe.epochs=12")
    assert suite.run("--set", *too_fast, "seeds=[0]", "methods=[kd, sskd]") == 2
    assert "head-resnet8-contrastive-digits-s0" in (error := capsys.readouterr().err)
    assert "diverged" in error
    (report,) = (suite.results / "tiny" / "reports").iterdir()
    (row,) = [line for line in (report / "comparison.md").read_text().splitlines() if line.startswith("| KD |")]
    assert re.search(r"\d\.\d\d", row)
