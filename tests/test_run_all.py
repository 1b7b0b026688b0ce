"""The command line: plans, skips, reports, and answers to bad input."""

import json
from pathlib import Path
from typing import Any

import pytest
import yaml

from benchmarks.commands.main import main
from benchmarks.planning.plan import make_plan
from benchmarks.profiles.read import read_profile
from benchmarks.tables.spec_builder import SpecBuilder
from sskd.errors import UserError
from sskd.runs.settings import method_settings

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
    profile: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Results are committed without weights; a clone of them can be gone on with."""
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
    assert json.loads((head / "result.previous.json").read_text()) == before
    assert (head / "last.safetensors").exists()


def test_plan_run_skip_and_report(profile: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(profile, tmp_path, "plan", "--json") == 0
    plan = json.loads(capsys.readouterr().out)["runs"]
    assert [(row["stage"], row["state"]) for row in plan] == [(0, "absent")] * 3 + [(1, "absent")] * 3 + [
        (2, "absent")
    ] * 2
    assert not (tmp_path / "results" / "tiny" / "runs").exists()

    assert run(profile, tmp_path) == 0
    shown = capsys.readouterr().out
    assert "[8/8]" in shown
    assert "SSKD - KD:" in shown
    table = (tmp_path / "results" / "tiny" / "comparison.md").read_text()
    for row in ("Teacher", "Student", "KD", "SSKD"):
        assert f"| {row} |" in table

    assert run(profile, tmp_path) == 0
    assert "8 runs, 8 of them finished" in capsys.readouterr().out
    assert run(profile, tmp_path, "report", "--json") == 0
    assert json.loads(capsys.readouterr().out)["benchmark"] == "comparison"


def test_a_failed_run_stops_neither_others_nor_the_report(
    profile: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The head cannot be trained (its rate is too large): SSKD is not started and says why; KD is there."""
    too_fast = ("head_recipe.learning_rate=1000", "head_recipe.weight_decay=100", "head_recipe.epochs=12")
    assert run(profile, tmp_path, "--set", *too_fast, "seeds=[0]") == 2
    output = capsys.readouterr()
    assert "head-resnet8-contrastive" in output.err
    assert "diverged" in output.err
    (report,) = (tmp_path / "results" / "tiny" / "reports").iterdir()
    table = (report / "comparison.md").read_text()
    assert "failed" in table or "not run" in table
    assert run(profile, tmp_path, "--only", "comparison", "--methods", "none,kd", "--seeds", "0") == 0
    assert "0 of them" not in capsys.readouterr().out.splitlines()[0]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--profile", "smok"], "unknown profile 'smok'; did you mean 'smoke'?"),
        (["--profile", "none.yaml"], "no such file: none.yaml"),
        (["--methods", "kd,crdd"], "unknown method 'crdd'; did you mean 'crd'?"),
        (["--methods", "crd+at"], "followed by '\\+kd'"),
        (["--only", "comparisn"], "unknown benchmark 'comparisn'; did you mean 'comparison'?"),
        (["--set", "recipe.epoch=3"], "recipe: unknown key 'epoch'; did you mean 'epochs'?"),
        (["--set", "dataset.name=digit"], "unknown dataset 'digit'; did you mean 'digits'?"),
        (["--set", "pair=resnet20"], "'resnet20' is not a pair"),
        (["--set", "pair=resnet9/resnet8"], "unknown network 'resnet9'"),
        (["--only", "comparison", "--methods", "fsp", "--set", "pair=resnet32x4/resnet8"], "fsp.*channels"),
        (["--seeds", "a"], "seeds"),
    ],
)
def test_bad_input_is_one_line_and_status_2(
    options: list[str], message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["plan", "--results", str(tmp_path), *options]) == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1
    with pytest.raises(UserError, match=message):
        raise UserError(error)


@pytest.mark.parametrize(
    "kind", ["methods", "networks", "datasets", "pretexts", "transformations", "benchmarks", "profiles"]
)
def test_lists(kind: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["list", kind, "--json"]) == 0
    names = {row["name"] for row in json.loads(capsys.readouterr().out)}
    known = {"methods": "crd", "networks": "resnet56", "datasets": "cifar100", "pretexts": "contrastive"}
    known |= {"transformations": "rotation", "benchmarks": "comparison", "profiles": "smoke"}
    assert known[kind] in names
    assert main(["list", kind]) == 0


def test_shared_runs_are_planned_once(profile: Path) -> None:
    specs = SpecBuilder(read_profile(str(profile), []))
    pair = ("resnet8", "resnet8")
    students = [
        specs.student(pair, method_settings(name), seed) for name in ("kd", "at", "sskd", "kd") for seed in (0, 1)
    ]
    plan = make_plan(students)
    assert len(plan.runs) == 6 + 1 + 1  # three methods, two seeds; one teacher; one head
    assert [len(stage) for stage in plan.stages] == [1, 5, 2]


def test_the_shipped_profiles_are_valid() -> None:
    for name in ("demo", "smoke", "miniature", "paper"):
        profile = read_profile(name, [])
        assert profile.name == name
        assert make_plan([specs_of_pair(profile)]).runs


def specs_of_pair(profile: Any) -> Any:
    from benchmarks.profiles.profile import split_pair

    return SpecBuilder(profile).student(split_pair(profile.pair), method_settings("kd"), 0)
