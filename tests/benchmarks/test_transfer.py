"""The benchmark transfer: what it asks for, and its probes, made once and gone on with."""

import json
from pathlib import Path

import pytest

from benchmarks.analysis.frame import results_frame
from benchmarks.analysis.probes import add_probes, make_probes, probes_cost, probes_of
from benchmarks.commands.main import main
from benchmarks.profiles.read import read_profile
from benchmarks.report.tables import markdown, summary
from benchmarks.tables.benchmark import BENCHMARKS
from benchmarks.tables.spec_builder import SpecBuilder
from sskd.config.execution import Execution
from tests import small

QUICK = ["seeds=[0]", "split.fraction=0.1", "recipe.epochs=1", "teacher_recipe.epochs=1", "recipe.batch_size=24"]


def test_it_asks_for_the_runs_of_table_3_alone() -> None:
    profile = read_profile("paper", [])
    cells = {name: BENCHMARKS[name].cells(SpecBuilder(profile)) for name in ("table3", "transfer")}
    ids = {name: {cell.spec.id for cell in group} for name, group in cells.items()}
    assert ids["transfer"] < ids["table3"]
    assert {cell.column for cell in cells["transfer"]} == {"stl10", "tiny-imagenet"}
    assert len(probes_of(cells, profile)) == 2 * (1 + 12 * 3)


def test_probes_are_made_once_and_reported(tmp_path: Path) -> None:
    """Features of the smallest student, of its teacher, and of a student that uses its teacher's classifier."""
    profile = read_profile("smoke", QUICK)
    specs = SpecBuilder(profile)
    group = [cell for cell in BENCHMARKS["transfer"].cells(specs) if cell.row == "Teacher"]
    group += specs.students("wrn_40_2/wrn_16_2", "SimKD", "digits16-turned", specs.method("simkd"))
    cells, runs, execution = {"transfer": group}, tmp_path / "runs", Execution(dataset_root="data")
    probes = probes_of(cells, profile)

    def shown() -> str:
        frame = add_probes(results_frame(cells, runs), probes, "transfer", runs)
        return markdown(
            summary(frame[frame["benchmark"] == "transfer"], BENCHMARKS["transfer"]), BENCHMARKS["transfer"]
        )

    before = probes_cost(probes, runs, Path("data"), 1e9)
    assert (before.number, before.done) == (2, 0)
    assert before.multiply_adds > 2 * 1797 * 1e6  # two networks of millions of multiply-adds see every image
    said: list[str] = []
    assert make_probes(probes, runs, execution, said.append) == {}  # nothing is finished
    for cell in group:
        small.train_all(cell.spec, runs)
    assert "not probed" in shown()
    for some in (probes[:1], probes, probes):
        assert make_probes(some, runs, execution, said.append) == {}
    assert [line[:21] for line in said] == ["linear probe 1 of 1: "] * 2
    assert probes_cost(probes, runs, Path("data"), 1e9)[:3] == (2, 2, 0)
    for probe in probes:
        assert f"{json.loads(probe.file(runs).read_text())['top1']:.2f}" in shown()
    probes[0].file(runs).write_text("{")
    assert "delete it" in shown()


def test_a_data_set_that_is_not_there_is_told_and_the_others_are_probed(tmp_path: Path) -> None:
    absent = "probe.datasets=[{name: npz, path: nowhere.npz}, {name: digits16-turned}]"
    profile = read_profile("smoke", [*QUICK, absent])
    cells = {"transfer": [cell for cell in BENCHMARKS["transfer"].cells(SpecBuilder(profile)) if cell.row == "Student"]}
    small.train_all(cells["transfer"][0].spec, tmp_path)
    probes = probes_of(cells, profile)
    failures = make_probes(probes, tmp_path, Execution(dataset_root="data"), lambda line: None)
    assert list(failures.values()) == ["dataset.path: there is no nowhere.npz"]
    assert [probe.file(tmp_path).exists() for probe in probes] == [True, False]


def test_the_plan_says_what_probes_cost(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    options = ["plan", "--profile", "smoke", "--results", str(tmp_path), "--only", "transfer", "--seeds", "0"]
    assert main([*options, "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["probes"]["number"] == 13
