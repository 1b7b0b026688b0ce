"""Tests that the files of docs/generate.py are up to date and complete."""

import importlib.util
import json
import re
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


def test_every_method_is_explained(generate: Any) -> None:
    """Each has a formula that MathML can show and a family; each paper's method has its link."""
    infos = {name: METHODS[name].info for name in METHODS}
    assert [name for name, info in infos.items() if not info.formula or info.family not in generate.FAMILIES] == []
    assert [name for name, info in infos.items() if bool(info.year) != info.url.startswith("https://")] == []
    shown = {name for names in generate.by_family().values() for name in names}
    assert shown == set(METHODS)


def test_formulas_are_written_so_that_github_and_mathml_show_them() -> None:
    """GitHub's Markdown takes a backslash before punctuation away; the converter leaves what it does not know."""
    converter = pytest.importorskip("latex2mathml.converter", reason="the extra 'docs' is not installed")
    for name in METHODS:
        info = METHODS[name].info
        for formula in [info.formula, *re.findall(r"\$(.+?)\$", info.where)]:
            assert not re.search(r"\\[^a-zA-Z]", formula), (name, formula)
            assert "\\" not in converter.convert(formula), (name, formula)


def test_a_cost_is_of_a_method(generate: Any) -> None:
    cost = json.loads(generate.COST.read_text())
    assert cost["methods"].keys() <= set(METHODS)
    assert cost["methods"]["kd"]["ratio_to_kd"] == 1.0
    assert "| `kd` | 1.00 |" in generate.step_times(cost)


@pytest.mark.slow
def test_a_step_of_every_method_is_measured(generate: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "cost.json"
    command = ["method_steps", "--pair", "resnet8/resnet8", "--rounds", "1", "--steps", "1", "--write", str(file)]
    monkeypatch.setattr("sys.argv", command)
    method_steps.main()
    written, shown = json.loads(file.read_text()), json.loads(generate.COST.read_text())
    assert written.keys() == shown.keys()
    assert written["methods"].keys() == set(METHODS)
