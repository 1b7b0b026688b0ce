"""The profile of a vision transformer: what it plans, and a tiny one that trains."""

import importlib.util
import json
from pathlib import Path

import pytest

from benchmarks.commands.main import main
from benchmarks.profiles.read import read_profile
from benchmarks.tables.benchmark import BENCHMARKS
from benchmarks.tables.spec_builder import SpecBuilder
from sskd.runs.spec import StudentSpec

pytestmark = pytest.mark.skipif(not importlib.util.find_spec("timm"), reason="timm is not installed")

TINY = [
    *("dataset={name: digits16}", "pair=resnet8/timm:test_vit", "split={fraction: 0.05}", "seeds=[0]"),
    *("network_settings={timm:test_vit: {image_size: 32}}", "recipe.epochs=2", "recipe.batch_size=16"),
    *("recipe.warmup_epochs=1", "recipe.ema=0.5", "teacher_recipe={epochs: 1}", "head_recipe={epochs: 1}"),
]


def test_students_have_todays_recipe_and_the_teacher_the_published_one() -> None:
    cells = BENCHMARKS["comparison"].cells(SpecBuilder(read_profile("vit", [])))
    students = [cell.spec for cell in cells if isinstance(cell.spec, StudentSpec)]
    assert {cell.row for cell in cells} == {"Teacher", "Student", "KD", "KD+LSKD", "SSKD"}
    assert {spec.network for spec in students} == {"timm:deit_tiny_patch16_224"}
    assert {(r.optimizer, r.label_smoothing, r.ema, r.mixup) for r in (spec.recipe for spec in students)} == {
        ("adamw", 0.1, 0.999, 0.0)
    }
    (teacher,) = {cell.spec for cell in cells if cell.row == "Teacher"}
    assert (teacher.network, teacher.recipe.optimizer, teacher.recipe.ema) == ("resnet56", "sgd", 0.0)


@pytest.mark.slow
def test_a_tiny_one_trains_and_its_average_is_a_column(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(["--profile", "vit", "--results", str(tmp_path / "results"), "--set", *TINY]) == 0
    results = tmp_path / "results" / "vit"
    students = list((results / "runs").glob("student-timm-test_vit-*"))
    assert len(students) == 4
    for folder in students:
        assert (folder / "ema.safetensors").is_file()
        assert "test_ema_top1" in json.loads((folder / "result.json").read_text())["last"]
    (table,) = results.rglob("comparison.csv")
    assert "average mean" in table.read_text().splitlines()[0]
