"""Staleness: an edit of a user's file after a run is reported everywhere, and --rerun retrains."""

import hashlib
import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from benchmarks.commands.main import main
from benchmarks.profiles.read import read_profile
from benchmarks.tables.benchmark import BENCHMARKS
from benchmarks.tables.spec_builder import SpecBuilder
from sskd import version
from sskd.runs.plugins import load_plugin, noted
from sskd.runs.spec import RunSpec
from sskd.training.run import Interrupted, train
from tests import small
from tests.benchmarks.made import finish
from tests.benchmarks.test_profiles import OWN_METHOD
from tests.test_run_all import TINY

PROFILE: dict[str, Any] = TINY | {"seeds": [0], "methods": ["none", "own_edited"]}


def forget_plugins() -> None:
    """Forgets the loaded plugins, as in a new process."""
    from sskd.methods import METHODS

    for name in [name for name in sys.modules if name.startswith("plugin_")]:
        del sys.modules[name]
    METHODS._entries.pop("own_edited", None)


class Suite:
    """A profile with an own method, all of whose runs look finished by the method's first version."""

    def __init__(self, folder: Path) -> None:
        self.plugin, self.results = folder / "edited.py", folder / "results"
        self.plugin.write_text(OWN_METHOD.format(name="own_edited", title="Edited"))
        (folder / "tiny.yaml").write_text(yaml.safe_dump(PROFILE))
        self.options = ["--profile", str(folder / "tiny.yaml"), "--plugin", str(self.plugin)]
        self.runs = self.results / "tiny" / "runs"
        profile = read_profile(str(folder / "tiny.yaml"), [], [str(self.plugin)])
        cells = {"comparison": BENCHMARKS["comparison"].cells(SpecBuilder(profile))}
        finish(cells, self.runs, lambda spec: 50.0)
        self.ids = {cell.row: cell.spec.id for cell in cells["comparison"]}
        self.note([{"path": "elsewhere/edited.py", "sha256": hashlib.sha256(self.plugin.read_bytes()).hexdigest()}])

    def note(self, plugins: list[dict[str, str]] | None, **machine: Any) -> None:
        file = self.runs / self.ids["Edited"] / "result.json"
        result = json.loads(file.read_text())
        result["machine"] |= machine | ({"plugins": plugins} if plugins is not None else {})
        file.write_text(json.dumps(result))

    def edit(self) -> None:
        self.plugin.write_text(self.plugin.read_text() + "\n# another\n")
        forget_plugins()

    def run(self, *options: str) -> int:
        return main([*options, *self.options, "--results", str(self.results)])


@pytest.fixture
def suite(tmp_path: Path) -> Suite:
    return Suite(tmp_path)


def test_without_an_edit_nothing_is_said(suite: Suite, capsys: pytest.CaptureFixture[str]) -> None:
    forget_plugins()
    assert suite.run("report") == 0
    assert suite.run("plan") == 0
    assert "other code" not in capsys.readouterr().out
    folder = suite.results / "tiny" / "reports" / "plugin=edited"
    assert "†" not in (folder / "index.html").read_text() + (folder / "comparison.md").read_text()


def test_an_edit_is_told_in_plan_table_and_page(suite: Suite, capsys: pytest.CaptureFixture[str]) -> None:
    suite.edit()
    edited = suite.ids["Edited"]
    assert suite.run("plan") == 0
    plan = capsys.readouterr().out
    assert f"{edited} (Edited): finished with other code (edited.py has changed)" in plan
    assert f"trained with other code (edited.py has changed): {edited}; --rerun changed" in plan
    assert plan.count("finished with other code") == 1  # the teacher and the student alone do not use the file
    assert suite.run("plan", "--json") == 0
    changed = {row["id"]: row["changed"] for row in json.loads(capsys.readouterr().out)["runs"]}
    assert {run for run, why in changed.items() if why} == {edited}

    assert suite.run() == 0
    assert "3 of them finished\ntrained with other code" in capsys.readouterr().out
    folder = suite.results / "tiny" / "reports" / "plugin=edited"
    table = (folder / "comparison.md").read_text()
    assert "† trained with other code (edited.py has changed): " + edited in table
    assert next(line.endswith("| † |") for line in table.splitlines() if line.startswith("| Edited |"))
    assert not [line for line in table.splitlines() if line.startswith("| Student |") and "†" in line]
    assert r"$^\dagger$" in (folder / "comparison.tex").read_text()
    page = (folder / "index.html").read_text()
    assert "<dt>code</dt><dd>edited.py has changed</dd>" in page
    assert "† trained with other code" in page


@pytest.mark.parametrize(
    ("plugins", "machine", "why"),
    [
        (None, {}, "edited.py was not recorded"),  # of a suite that did not note them
        ([{"path": "x/old.py", "sha256": "0"}], {}, "edited.py has changed, old.py has changed"),
        (None, {"version": "0.0.1"}, "edited.py was not recorded, the suite was version 0.0.1"),
    ],
)
def test_what_a_run_can_have_noted(
    suite: Suite, plugins: Any, machine: dict[str, Any], why: str, capsys: pytest.CaptureFixture[str]
) -> None:
    suite.note([])
    suite.note(plugins, **machine)
    assert suite.run("plan") == 0
    assert f"finished with other code ({why})" in capsys.readouterr().out


def test_rerun_says_what_it_would_do(suite: Suite, capsys: pytest.CaptureFixture[str]) -> None:
    def rerun(asked: str) -> set[str]:
        assert suite.run("plan", "--json", "--rerun", asked) == 0
        return {row["id"] for row in json.loads(capsys.readouterr().out)["runs"] if row["state"] == "rerun"}

    edited, alone, teacher = (suite.ids[row] for row in ("Edited", "Student", "Teacher"))
    assert rerun("changed") == set()
    assert rerun("own_edited") == rerun(edited) == {edited}
    assert rerun("none,own_edited") == {edited, alone}
    assert rerun("teacher") == {teacher, edited}  # what was trained from it
    assert rerun("all") == {edited, alone, teacher}
    suite.edit()
    assert rerun("changed") == {edited}
    assert suite.run("plan", "--rerun", "own_edite") == 2
    assert "unknown --rerun 'own_edite'; did you mean 'own_edited'?" in capsys.readouterr().err
    assert suite.run("--rerun", "all", "--set", "execution.device=cuda:99") == 2  # found before anything is moved
    assert sorted(path.name for path in suite.runs.iterdir()) == sorted(suite.ids.values())


def test_rerun_trains_anew_and_keeps_the_old_beside(suite: Suite, capsys: pytest.CaptureFixture[str]) -> None:
    """The student alone: it needs no teacher, whose weights are not here."""
    alone = suite.runs / suite.ids["Student"]
    before = (alone / "result.json").read_text()
    options = ["--methods", "none", "--rerun", "none"]
    assert suite.run(*options) == 0
    shown = capsys.readouterr().out
    assert f"{alone.name} is trained again; the old run is archived as {alone.name}.previous" in shown
    kept = alone.with_name(f"{alone.name}.previous")
    assert (kept / "result.json").read_text() == before
    assert json.loads((alone / "result.json").read_text())["id"] == alone.name
    assert suite.run(*options) == 0
    assert (alone.with_name(f"{alone.name}.previous-2") / "best.safetensors").exists()
    assert (kept / "result.json").read_text() == before
    assert suite.run("report") == 0  # the kept ones are no runs


def test_a_run_notes_the_files_that_it_uses(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Not those that it does not use; and the suite's commit is not enough where a file is not in it."""
    for name in ("own_used", "own_idle"):
        (tmp_path / f"{name}.py").write_text(OWN_METHOD.format(name=name, title=name))
        load_plugin(tmp_path / f"{name}.py")
    used = tmp_path / "own_used.py"
    spec = small.spec(small.student("own_used"))
    entry = {"path": str(used), "sha256": hashlib.sha256(used.read_bytes()).hexdigest()}
    git = ["git", "-C", str(tmp_path), "-c", "user.name=a", "-c", "user.email=a@b"]
    subprocess.run([*git, "init", "-q"], check=True)
    monkeypatch.setattr(version, "CLONE", tmp_path)
    assert noted(spec, dirty=False) == {"dirty": True, "plugins": [entry]}
    assert noted(small.spec(small.student("kd")), dirty=False) == {"dirty": False, "plugins": []}
    subprocess.run([*git, "add", "own_used.py"], check=True)
    subprocess.run([*git, "commit", "-q", "-m", "x"], check=True)
    assert noted(spec, dirty=False) == {"dirty": False, "plugins": [entry]}
    assert noted(spec, dirty=None) == {"dirty": None, "plugins": [entry]}
    used.write_text(used.read_text() + "\n")
    assert noted(spec, dirty=False)["dirty"] is True
    result = small.train_all(spec, tmp_path / "runs")
    assert result["machine"]["plugins"] == [entry]  # what was imported, not what lies there since


def test_a_new_file_in_the_packages_makes_the_code_dirty(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    git = ["git", "-C", str(tmp_path), "-c", "user.name=a", "-c", "user.email=a@b"]
    subprocess.run([*git, "init", "-q"], check=True)
    subprocess.run([*git, "commit", "-q", "--allow-empty", "-m", "x"], check=True)
    monkeypatch.setattr(version, "CLONE", tmp_path)
    (tmp_path / "notes.txt").write_text("")
    version.code.cache_clear()
    assert version.code()["dirty"] is False
    (tmp_path / "sskd" / "methods").mkdir(parents=True)
    (tmp_path / "sskd" / "methods" / "mine.py").write_text("")
    version.code.cache_clear()
    assert version.code()["dirty"] is True
    version.code.cache_clear()


def test_an_edit_while_a_run_was_interrupted_is_told(suite: Suite, capsys: pytest.CaptureFixture[str]) -> None:
    def student() -> RunSpec:
        profile = read_profile(suite.options[1], [], [str(suite.plugin)])
        cells = BENCHMARKS["comparison"].cells(SpecBuilder(profile))
        return next(cell.spec for cell in cells if cell.row == "Edited")

    runs, spec = suite.runs, student()
    for run in (*spec.dependencies, spec):
        shutil.rmtree(runs / run.id)  # it only looked finished
    for needed in spec.dependencies:
        train(needed, runs, small.EXECUTION)
    with pytest.raises(Interrupted):
        train(spec, runs, small.EXECUTION, should_stop=lambda: True)
    first = hashlib.sha256(suite.plugin.read_bytes()).hexdigest()
    suite.edit()
    result = train(student(), runs, small.EXECUTION)
    second = hashlib.sha256(suite.plugin.read_bytes()).hexdigest()
    assert [entry["sha256"] for entry in result["machine"]["plugins"]] == [first, second]
    capsys.readouterr()
    assert suite.run("plan") == 0
    assert "trained with other code (edited.py has changed)" in capsys.readouterr().out
