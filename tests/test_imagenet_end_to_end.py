"""Table 5 on a generated folder: from JPEGs and a weights file to a filled table and the claim's verdict."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
import torchvision
import yaml

from benchmarks.commands.main import main
from sskd.data.datasets.registry import load_dataset
from tests import small
from tests.imagenet_folder import make_imagenet, truncate

SCHEDULE: dict[str, Any] = {"epochs": 1, "batch_size": 24, "milestones": [30, 60, 90], "full_epochs": 100}


def profile(folder: Path, **changes: Any) -> str:
    torch.manual_seed(0)
    torch.save(torchvision.models.resnet34(num_classes=6).state_dict(), folder / "resnet34.pth")
    override = {
        "dataset": {"name": "imagenet", "path": str(folder / "imagenet"), "crop_size": 32} | changes,
        "teachers": {"resnet34": {"network": "resnet34", "weights": str(folder / "resnet34.pth")}},
        "split": {"fraction": 0.5, "noise": 0.1},
        "recipe": SCHEDULE,
        "head_recipe": SCHEDULE,
        "method_recipes": {"sskd": {"weight_decay": 0.001}},
        "method_settings": {"sskd": {"ce_weight": 1.0}, "crd": {"negatives": 16}},
    }
    data = {"about": "a test", "dataset": {"name": "digits"}, "seeds": [0], "benchmarks": ["table5"]}
    data["overrides"] = {"table5": override}
    file = folder / "tiny.yaml"
    file.write_text(yaml.safe_dump(data))
    return str(file)


def run(folder: Path, *options: str, **changes: Any) -> int:
    load_dataset.cache_clear()
    common = ["--profile", profile(folder, **changes), "--only", "table5", "--results", str(folder / "results")]
    settings = ["--set", "execution.workers=0", "execution.threads=1"]
    return main([*options, *common, "--dataset-root", str(folder), *settings])


def results(folder: Path) -> list[dict[str, Any]]:
    files = sorted((folder / "results" / "tiny" / "runs").glob("*/result.json"))
    return [json.loads(file.read_text()) for file in files]


@pytest.mark.slow
def test_table5_is_filled(tmp_path: Path) -> None:
    make_imagenet(tmp_path / "imagenet", classes=6, per_class=16, val_per_class=5)
    assert run(tmp_path) == 0
    out = tmp_path / "results" / "tiny"
    table = (out / "table5.md").read_text()
    for row in ("Teacher", "Student", "KD", "AT", "SP", "CC", "CRD", "SSKD"):
        assert f"| {row} |" in table
    assert "top-5" in table
    assert "71.62" in table  # the paper's
    assert "90.67" in table
    assert len(results(tmp_path)) == 7 + 2
    for result in results(tmp_path):
        # half of the images; the head has all, and the teacher, which is only measured, none
        assert result["train_images"] == (0 if "teacher" in result["id"] else 96 if "head" in result["id"] else 48)
    claims = (out / "claims.md").read_text()
    c6 = next(line for line in claims.splitlines() if "C6" in line)
    assert "nothing was run" not in c6
    recipes = {
        spec["method"]["name"]: spec["recipe"]["weight_decay"]
        for file in (out / "runs").glob("student-*/spec.yaml")
        if (spec := yaml.safe_load(file.read_text()))
    }
    assert recipes == dict.fromkeys(("none", "kd", "at", "sp", "cc", "crd"), 5e-4) | {"sskd": 1e-3}


@pytest.mark.slow
def test_two_processes_leave_nothing_behind(tmp_path: Path) -> None:
    """Their workers that read images included: Python would say so at the end, in the middle of a person's output."""
    make_imagenet(tmp_path / "imagenet", classes=3, per_class=12, val_per_class=4)
    recipe = {"epochs": 1, "batch_size": 12, "milestones": [], "full_epochs": 1, "processes": 2}
    data = {"name": "imagenet", "crop_size": 32}
    wanted = small.spec({"role": "teacher", "network": "resnet8", "dataset": data, "recipe": recipe})
    command = [sys.executable, "-m", "sskd", *small.train_command(wanted, tmp_path), "--dataset-root", str(tmp_path)]
    done = subprocess.run([*command, "--threads", "1"], capture_output=True, text=True, check=True)
    assert (tmp_path / wanted.id / "result.json").exists()
    assert "leaked" not in done.stderr


@pytest.mark.slow
def test_a_corrupt_image_is_an_error_or_counted(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = make_imagenet(tmp_path / "imagenet", classes=6, per_class=8, val_per_class=2)
    whole = ["--set", "split={}", "table_methods=[kd]"]
    for file in (folder / "train" / "n00000002").iterdir():
        truncate(file)
    assert run(tmp_path, *whole) == 2
    assert "n00000002" in capsys.readouterr().out
    runs = tmp_path / "results" / "tiny" / "runs"
    assert [result["id"].split("-")[0] for result in results(tmp_path)] == ["teacher"]  # it saw the test images alone
    (failed,) = runs.glob("*/failed.json")
    assert "n00000002" in json.loads(failed.read_text())["message"]
    with pytest.warns(UserWarning, match="n00000002"):
        assert run(tmp_path, *whole, corrupt="skip") == 0
    rows = [json.loads(line) for file in runs.glob("*/metrics.jsonl") for line in file.read_text().splitlines()]
    assert {row["images_skipped"] for row in rows} == {8}


def test_what_no_run_can_do_without_is_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(tmp_path) == 2  # no images
    shown = capsys.readouterr()
    assert shown.err.count("\n") == 1
    assert "there is no folder" in shown.err
    assert not (tmp_path / "results" / "tiny" / "runs").exists()
    make_imagenet(tmp_path / "imagenet", classes=6, per_class=4, val_per_class=1)
    settings = ["--methods", "kd", "--set", "overrides.table5.teachers.resnet34.weights=torchvision:IMAGNET1K_V1"]
    assert run(tmp_path, "plan", *settings) == 2
    assert "did you mean 'IMAGENET1K_V1'" in capsys.readouterr().err
