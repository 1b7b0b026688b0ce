"""Overrides for one benchmark, settings for one method, and a user's own files."""

import json
from pathlib import Path

import pytest
import yaml

from benchmarks.commands.main import main
from benchmarks.profiles.read import read_profile
from benchmarks.tables.benchmark import check_benchmarks
from benchmarks.tables.spec_builder import SpecBuilder
from sskd.errors import UserError
from sskd.runs.plugins import load_plugin
from tests.test_run_all import TINY

OWN_METHOD = """
from sskd.methods import METHODS, Method, MethodInfo, LossTerms

@METHODS.register("{name}")
class Own(Method):
    info = MethodInfo("{title}", "mine", 2026, "pooled features")
    required_features = frozenset({{"pooled", "labels"}})
    loss_weights = {{"near": 1.0}}

    def loss_terms(self, student, teacher, batch):
        return LossTerms({{"near": (student.pooled.mean() - teacher.pooled.mean()).square()}})
"""


def write(path: Path, **changes: object) -> str:
    path.write_text(yaml.safe_dump(TINY | changes))
    return str(path)


def test_an_override_changes_one_benchmark_and_only_what_it_names(tmp_path: Path) -> None:
    override = {"seeds": [7], "recipe": {"epochs": 3}, "method_settings": {"crd": {"negatives": 8}}}
    file = write(tmp_path / "p.yaml", overrides={"table3": override}, method_settings={"ab": {"initial_epochs": 2}})
    profile = read_profile(file, [])
    changed = profile.for_benchmark("table3")
    assert profile.for_benchmark("table4") is profile
    assert changed.seeds == (7,)
    assert (changed.recipe.epochs, changed.recipe.batch_size) == (3, 32)
    assert changed.split == profile.split
    assert SpecBuilder(changed).method("crd").negatives == 8  # type: ignore[attr-defined]
    assert SpecBuilder(changed).method("ab").initial_epochs == 2  # type: ignore[attr-defined]


def test_the_command_line_wins_over_overrides(tmp_path: Path) -> None:
    override = {"seeds": [7], "recipe": {"epochs": 3, "batch_size": 16}}
    file = write(tmp_path / "p.yaml", overrides={"table3": override})
    changed = read_profile(file, ["seeds=[1,2]", "recipe.epochs=5"]).for_benchmark("table3")
    assert changed.seeds == (1, 2)
    assert (changed.recipe.epochs, changed.recipe.batch_size) == (5, 16)
    assert read_profile(file, ["overrides.table3.seeds=[9]"]).for_benchmark("table3").seeds == (9,)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"overrides": {"table33": {"seeds": [0]}}}, "unknown benchmark 'table33'; did you mean 'table3'"),
        ({"overrides": {"table3": {"seed": [0]}}}, "unknown key of overrides.table3 'seed'; did you mean 'seeds'"),
        ({"overrides": {"table3": {"recipe": {"epochs": "two"}}}}, "overrides.table3: recipe.epochs"),
        ({"method_settings": {"ab": {"epochs": 1}}}, "unknown key 'epochs'"),
        ({"method_settings": {"abc": {}}}, "unknown method 'abc'"),
        ({"plugins": ["nowhere.py"]}, "plugin nowhere.py: there is no such file"),
        ({"plugins": "own.py"}, "plugins"),
    ],
)
def test_bad_profiles_are_one_line(changes: dict[str, object], message: str, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=message) as caught:
        check_benchmarks(read_profile(write(tmp_path / "p.yaml", **changes), []))
    assert "\n" not in str(caught.value)


def test_a_method_of_ones_own_becomes_a_row(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """No change inside sskd: a file named on the command line is enough."""
    plugin = tmp_path / "own.py"
    plugin.write_text(OWN_METHOD.format(name="own_near", title="Near"))
    options = ["--profile", write(tmp_path / "tiny.yaml"), "--results", str(tmp_path / "results")]
    options += ["--plugin", str(plugin), "--methods", "kd,own_near,own_near+kd", "--seeds", "0"]
    assert main(options) == 0
    assert "| Near |" in capsys.readouterr().out
    (report,) = (tmp_path / "results" / "tiny" / "reports").iterdir()
    assert "| Near+KD |" in (report / "comparison.md").read_text()
    assert "Near" in (report / "index.html").read_text()
    assert main(["list", "methods", "--json", "--plugin", str(plugin)]) == 0
    assert "own_near" in {row["name"] for row in json.loads(capsys.readouterr().out)}


def test_a_profile_names_plugins_for_workers_to_load(tmp_path: Path) -> None:
    plugin = tmp_path / "own2.py"
    plugin.write_text(OWN_METHOD.format(name="own_far", title="Far"))
    file = write(tmp_path / "p.yaml", plugins=[str(plugin)], methods=["own_far"])
    profile = read_profile(file, [])
    assert profile.plugins == (str(plugin),)
    assert read_profile(file, []) == profile  # a second look-up registers nothing twice


@pytest.mark.parametrize(
    ("code", "message"),
    [
        ("raise RuntimeError('two\\nlines')", "RuntimeError: two lines"),
        ("import nothing_of_the_kind", "ModuleNotFoundError: No module named 'nothing_of_the_kind'"),
        ("def (:", "SyntaxError"),
        (OWN_METHOD.format(name="kd", title="Mine"), "the method 'kd' is registered twice"),
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


def code_in(name: str) -> str:
    """The first Python block of a file in docs."""
    text = (Path(__file__).parents[2] / "docs" / name).read_text()
    return text.split("```python\n")[1].split("```")[0]


def test_the_benchmark_in_the_docs_works(tmp_path: Path) -> None:
    (tmp_path / "doc_benchmark.py").write_text(code_in("add_a_benchmark.md"))
    options = ["plan", "--profile", write(tmp_path / "tiny.yaml"), "--results", str(tmp_path / "results")]
    options += ["--plugin", str(tmp_path / "doc_benchmark.py"), "--set", "pairs={vgg13/vgg8: resnet8/resnet8}"]
    assert main([*options, "--only", "kd_temperature"]) == 0
