"""What docs/methods.md says of each method: its formula, and the cost of its step."""

import json
from pathlib import Path

import pytest

from benchmarks.report.methods_page import COST, step_cost
from perf import method_steps
from sskd.methods import METHODS


def test_every_method_says_its_formula() -> None:
    for name in METHODS:
        assert METHODS[name].info.formula, name


def test_costs_are_of_methods_that_there_are() -> None:
    cost = json.loads(COST.read_text())
    assert cost["methods"].keys() <= set(METHODS)
    assert cost["methods"]["kd"]["ratio_to_kd"] == 1.0
    assert step_cost("kd", {}) == "not measured"
    some = {"crd": {"milliseconds": 30.04, "lowest": 28.6, "highest": 31, "ratio_to_kd": 1.5}}
    assert step_cost("crd", some) == "1.50 of KD's (30 ms, 29 to 31)"


@pytest.mark.slow
def test_a_step_of_every_method_is_measured(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "cost.json"
    command = ["method_steps", "--pair", "resnet8/resnet8", "--rounds", "1", "--steps", "1", "--write", str(file)]
    monkeypatch.setattr("sys.argv", command)
    method_steps.main()
    written, shown = json.loads(file.read_text()), json.loads(COST.read_text())
    assert written.keys() == shown.keys()
    assert written["methods"].keys() == set(METHODS)
