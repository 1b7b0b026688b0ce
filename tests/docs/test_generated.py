"""What docs/generate.py writes is up to date, and says all that it should."""

import importlib.util
import json
from pathlib import Path
from typing import Any

import pytest

from perf import method_steps
from sskd.methods import METHODS
from tests.docs.reading import ROOT


@pytest.fixture
def generate() -> Any:
    """docs/generate.py as a module, where the suite's own methods alone are registered."""
    METHODS._entries = {name: METHODS[name] for name in METHODS if METHODS[name].__module__.startswith("sskd.")}
    spec = importlib.util.spec_from_file_location("generate", ROOT / "docs" / "generate.py")
    assert spec
    assert spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_no_page_is_stale(generate: Any) -> None:
    """``python docs/generate.py`` writes them anew."""
    made = generate.generated()
    assert [file.name for file, content in made.items() if file.read_text() != content] == []
    assert generate.methods_table() in made[ROOT / "README.md"]
    assert not [line for line in made[ROOT / "docs" / "results_format.md"].splitlines() if line.endswith("|  |")]


def test_every_method_has_a_formula_and_a_cost_is_of_a_method(generate: Any) -> None:
    assert [name for name in METHODS if not METHODS[name].info.formula] == []
    cost = json.loads(generate.COST.read_text())
    assert cost["methods"].keys() <= set(METHODS)
    assert cost["methods"]["kd"]["ratio_to_kd"] == 1.0
    assert generate.step_cost("kd", {}) == "not measured"
    some = {"crd": {"milliseconds": 30.04, "lowest": 28.6, "highest": 31, "ratio_to_kd": 1.5}}
    assert generate.step_cost("crd", some) == "1.50 of KD's (30 ms, 29 to 31)"


@pytest.mark.slow
def test_a_step_of_every_method_is_measured(generate: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "cost.json"
    command = ["method_steps", "--pair", "resnet8/resnet8", "--rounds", "1", "--steps", "1", "--write", str(file)]
    monkeypatch.setattr("sys.argv", command)
    method_steps.main()
    written, shown = json.loads(file.read_text()), json.loads(generate.COST.read_text())
    assert written.keys() == shown.keys()
    assert written["methods"].keys() == set(METHODS)
