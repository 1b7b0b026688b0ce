"""Overrides for one benchmark, settings and labels of methods, and a user's own files."""

import json
from pathlib import Path
from typing import Any

import pytest

from benchmarks.profiles.read import read_profile
from benchmarks.tables.benchmark import BENCHMARKS, check_benchmarks
from benchmarks.tables.cell import Cell
from benchmarks.tables.spec_builder import SpecBuilder, method_label, run_label, unique_cells
from sskd.config.pretrained import FromFile
from sskd.errors import UserError
from sskd.methods import METHODS
from sskd.runs.plugins import load_plugin
from sskd.runs.settings import method_settings
from sskd.runs.spec import spec_yaml
from tests.benchmarks.made import OWN_METHOD, own_method, tiny


def test_an_override_changes_one_benchmark_and_only_what_it_names(tmp_path: Path) -> None:
    override = {"seeds": [7], "recipe": {"epochs": 3}, "method_settings": {"crd": {"negatives": 8}}}
    given = {"teachers": {"resnet8": {"network": "resnet8", "weights": "a.pth"}}}
    file = tiny(tmp_path, overrides={"table3": override | given}, method_settings={"ab": {"initial_epochs": 2}})
    profile = read_profile(file, [])
    changed = profile.for_benchmark("table3")
    assert profile.for_benchmark("table4") is profile
    assert changed.seeds == (7,)
    assert (changed.recipe.epochs, changed.recipe.batch_size) == (3, 32)
    assert changed.split == profile.split
    specs = SpecBuilder(changed)
    assert specs.method("crd").negatives == 8  # type: ignore[attr-defined]
    assert specs.method("ab").initial_epochs == 2  # type: ignore[attr-defined]
    assert isinstance(specs.teacher("resnet8"), FromFile)


def test_the_command_line_wins_over_overrides(tmp_path: Path) -> None:
    override = {"seeds": [7], "recipe": {"epochs": 3, "batch_size": 16}}
    file = tiny(tmp_path, overrides={"table3": override})
    changed = read_profile(file, ["seeds=[1,2]", "recipe.epochs=5"]).for_benchmark("table3")
    assert changed.seeds == (1, 2)
    assert (changed.recipe.epochs, changed.recipe.batch_size) == (5, 16)
    assert read_profile(file, ["overrides.table3.seeds=[9]"]).for_benchmark("table3").seeds == (9,)


HALVES = {"recipe": {"epochs": 1, "processes": 3}, "overrides": {"table3": {"recipe": {"batch_size": 4}}}}


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"overrides": {"table33": {"seeds": [0]}}}, "unknown benchmark 'table33'; did you mean 'table3'"),
        ({"overrides": {"table3": {"seed": [0]}}}, "unknown key of overrides.table3 'seed'; did you mean 'seeds'"),
        ({"overrides": {"table3": {"recipe": {"epochs": "two"}}}}, "overrides.table3: recipe.epochs"),
        (HALVES, "overrides.table3: recipe: batch_size 4 is too small for 3 processes"),  # each is allowed
        ({"method_settings": {"ab": {"epochs": 1}}}, "unknown key 'epochs'"),
        ({"method_settings": {"abc": {}}}, "unknown method 'abc'"),
        ({"plugins": ["nowhere.py"]}, "plugin nowhere.py: there is no such file"),
        ({"plugins": "own.py"}, "plugins"),
    ],
)
def test_bad_profiles_are_one_line(changes: dict[str, object], message: str, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=message) as caught:
        check_benchmarks(read_profile(tiny(tmp_path, **changes), []))
    assert "\n" not in str(caught.value)


def test_a_profile_names_plugins_for_workers_to_load(tmp_path: Path) -> None:
    plugin = own_method(tmp_path / "own2.py", "own_far", "Far")
    file = tiny(tmp_path, plugins=[plugin], methods=["own_far"])
    profile = read_profile(file, [])
    assert profile.plugins == (plugin,)
    assert read_profile(file, []) == profile  # a second look-up registers nothing twice


@pytest.mark.parametrize(
    ("code", "message"),
    [
        ("raise RuntimeError('two\\nlines')", "RuntimeError: two lines"),
        ("import nothing_of_the_kind", "ModuleNotFoundError: No module named 'nothing_of_the_kind'"),
        ("def (:", "SyntaxError"),
        (OWN_METHOD.format(name="kd", title="Mine", year=2026), "the method 'kd' is registered twice"),
    ],
)
def test_a_plugin_that_raises_is_one_line(code: str, message: str, tmp_path: Path) -> None:
    plugin = tmp_path / "bad.py"
    plugin.write_text(code)
    with pytest.raises(UserError, match=message) as caught:
        load_plugin(plugin)
    assert "\n" not in str(caught.value)
    assert str(plugin) in str(caught.value)


def test_a_plugin_that_is_no_python_file(tmp_path: Path) -> None:
    (tmp_path / "own.txt").write_text("")
    with pytest.raises(UserError, match=r"must end in \.py"):
        load_plugin(tmp_path / "own.txt")


def cells(*methods: Any) -> list[Cell]:
    profile = read_profile("paper", [f"methods={json.dumps(methods)}", "seeds=[0,1]"])
    return unique_cells("comparison", BENCHMARKS["comparison"].cells(SpecBuilder(profile)))


@pytest.mark.parametrize(
    "variant",
    [
        {"name": "kd", "kd_temperature": 2.0},
        {"name": "sskd", "ss_keep": 0.5},
        {"name": "crd", "negatives": 256},
        {"name": "dkd", "standardise": True},
    ],
)
def test_two_settings_of_one_method_have_labels(variant: dict[str, Any]) -> None:
    name, title = variant["name"], METHODS[variant["name"]].info.title
    both = cells("none", name, variant | {"label": "the other, T=2"})
    assert list(dict.fromkeys(cell.row for cell in both)) == ["Teacher", "Student", title, "the other, T=2"]
    own = [cell.spec for cell in both if cell.row == "the other, T=2"]
    alone = [cell.spec for cell in cells("none", variant) if cell.spec.learns == name]
    assert [spec.id for spec in own] == [spec.id for spec in alone]  # the label is no part of the run
    assert "label:" not in spec_yaml(own[0])
    assert run_label(own[0]) == "the other, T=2"
    if name != "dkd":  # which has a name of its own for it
        with pytest.raises(UserError, match="give one a label"):
            cells(name, variant)


@pytest.mark.parametrize(
    ("setting", "why"),
    [
        ("methods=[kd, {name: kd, label: again}]", "are one run"),
        ("also=[kd, {name: kd, label: again}]", "are one run"),
        ("methods=[kd, {name: kd, kd_temperature: 2.0, label: SSKD}]", "the title of 'sskd'"),
        ("methods=[{name: kd, label: Teacher}]", "label"),
        ("methods=[{name: kd, label: a|b}]", "label"),
        ("methods=[{name: kd, label: ' a'}]", "label"),
        ("methods=[{name: kd, label: 3}]", "label"),
        ("method_settings={kd: {label: all}}", "method_settings.kd.label"),
    ],
)
def test_labels_that_mislead_are_refused(setting: str, why: str) -> None:
    with pytest.raises(UserError, match=why):
        read_profile("paper", [setting])


def test_a_row_says_what_is_left_out() -> None:
    assert method_label(method_settings("sskd", ss_weight=0.0)) == "SSKD, no L_ss"
    assert method_label(method_settings("sskd", ss_weight=0.0, t_weight=0.0)) == "SSKD, no L_T and L_ss"
