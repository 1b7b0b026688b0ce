"""Staleness: an edit of a user's file after a run is reported everywhere, and --rerun retrains."""

import hashlib
import json
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from benchmarks.commands.main import main
from benchmarks.planning.staleness import changed_since
from benchmarks.profiles.read import read_profile
from benchmarks.tables.benchmark import BENCHMARKS
from benchmarks.tables.cell import Cell
from benchmarks.tables.spec_builder import SpecBuilder
from sskd import version
from sskd.methods import METHODS
from sskd.runs.plugins import load_plugin, noted
from sskd.runs.run_folder import RunFolder
from sskd.training.run import Interrupted, train
from tests import small
from tests.benchmarks.made import finish, own_method, tiny


def forget_plugins() -> None:
    """Forgets the loaded plugins, as in a new process."""
    for name in [name for name in sys.modules if name.startswith("plugin_")]:
        del sys.modules[name]
    METHODS._entries.pop("own_edited", None)


def sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


class Suite:
    """A profile with an own method, all of whose runs look finished by the method's first version."""

    def __init__(self, folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
        self.capsys, self.plugin, self.results = capsys, folder / "edited.py", folder / "results"
        own_method(self.plugin, "own_edited", "Edited")
        self.profile = tiny(folder, seeds=[0], methods=["none", "own_edited"])
        self.runs = self.results / "tiny" / "runs"
        finish({"comparison": self.cells()}, self.runs, lambda spec: 50.0)
        self.ids = {cell.row: cell.spec.id for cell in self.cells()}
        file = self.runs / self.ids["Edited"] / "result.json"
        result = json.loads(file.read_text())
        result["machine"] |= {"plugins": [{"path": "elsewhere/edited.py", "sha256": sha256(self.plugin)}]}
        file.write_text(json.dumps(result))

    def cells(self) -> list[Cell]:
        return BENCHMARKS["comparison"].cells(SpecBuilder(read_profile(self.profile, [], [str(self.plugin)])))

    def edit(self) -> None:
        self.plugin.write_text(self.plugin.read_text() + "\n# another\n")
        forget_plugins()

    def run(self, *options: str, status: int = 0) -> str:
        given = ["--profile", self.profile, "--plugin", str(self.plugin), "--results", str(self.results)]
        assert main([*options, *given]) == status
        shown = self.capsys.readouterr()
        return shown.err if status else shown.out

    def planned(self, *options: str) -> Sequence[dict[str, Any]]:
        return json.loads(self.run("plan", "--json", *options))["runs"]  # type: ignore[no-any-return]


@pytest.fixture
def suite(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Suite:
    return Suite(tmp_path, capsys)


def test_an_edit_is_told_in_plan_table_and_page(suite: Suite) -> None:
    forget_plugins()
    assert "other code" not in suite.run("plan")
    suite.edit()
    edited = suite.ids["Edited"]
    plan = suite.run("plan")
    assert f"trained with other code (edited.py has changed): {edited}; --rerun changed" in plan
    assert plan.count("finished with other code") == 1  # the teacher and the student alone do not use the file
    assert {row["id"] for row in suite.planned() if row["changed"]} == {edited}

    assert "trained with other code" in suite.run()
    (folder,) = (suite.results / "tiny" / "reports").iterdir()
    lines = (folder / "comparison.md").read_text().splitlines()
    assert any(line.startswith("† trained with other code (edited.py has changed): " + edited) for line in lines)
    assert [line.split(" | ")[0] for line in lines if line.endswith("| † |")] == ["| Edited"]
    assert r"$^\dagger$" in (folder / "comparison.tex").read_text()
    assert "<dt>code</dt><dd>edited.py has changed</dd>" in (folder / "index.html").read_text()


@pytest.mark.parametrize(
    ("machine", "why"),
    [
        ({"plugins": [{"path": "x/own.py", "sha256": "same"}]}, ""),
        ({}, "own.py was not recorded"),  # of a suite that did not note them
        ({"plugins": [{"path": "x/old.py", "sha256": "0"}]}, "old.py has changed, own.py has changed"),
        ({"version": "0.0.1"}, "own.py was not recorded, the suite was version 0.0.1"),
    ],
)
def test_what_a_run_can_have_noted(machine: Any, why: str, tmp_path: Path) -> None:
    plugin = Path(own_method(tmp_path / "own.py", "own_noted", "Noted"))
    load_plugin(plugin)
    text = json.dumps({"machine": machine}).replace("same", sha256(plugin))
    assert changed_since(small.spec(small.student("own_noted")), json.loads(text)) == why


def test_rerun_says_what_it_would_do(suite: Suite) -> None:
    def rerun(asked: str) -> set[str]:
        return {row["id"] for row in suite.planned("--rerun", asked) if row["state"] == "rerun"}

    edited, alone, teacher = (suite.ids[row] for row in ("Edited", "Student", "Teacher"))
    assert rerun("changed") == set()
    assert rerun("own_edited") == rerun(edited) == {edited}
    assert rerun("none,own_edited") == {edited, alone}
    assert rerun("teacher") == {teacher, edited}  # what was trained from it
    assert rerun("all") == {edited, alone, teacher}
    suite.edit()
    assert rerun("changed") == {edited}
    (suite.runs / alone / "result.json").unlink()
    assert rerun("all") == {edited, teacher}  # what is not finished is trained anyway
    assert "did you mean 'own_edited'?" in suite.run("plan", "--rerun", "own_edite", status=2)
    suite.run("--rerun", "all", "--set", "execution.device=cuda:99", status=2)  # found before anything is moved
    assert sorted(path.name for path in suite.runs.iterdir()) == sorted(suite.ids.values())


def test_rerun_trains_anew_and_keeps_the_old_beside(suite: Suite) -> None:
    """The student alone: it needs no teacher, whose weights are not here."""
    alone = suite.runs / suite.ids["Student"]
    before = (alone / "result.json").read_text()
    suite.run("--methods", "none", "--rerun", "none")
    kept = alone.with_name(f"{alone.name}.previous")
    assert (kept / "result.json").read_text() == before
    assert json.loads((alone / "result.json").read_text())["id"] == alone.name
    spec = next(cell.spec for cell in suite.cells() if cell.row == "Student")
    again = RunFolder(suite.runs, spec).archive()
    assert (again.name, (again / "best.safetensors").exists()) == (f"{alone.name}.previous-2", True)
    assert (kept / "result.json").read_text() == before


def committed(folder: Path, *files: str) -> None:
    """Makes the folder a repository with these files, which takes the suite's place."""
    git = ["git", "-C", str(folder), "-c", "user.name=a", "-c", "user.email=a@b"]
    for command in (["init", "-q"], ["add", *files], ["commit", "-q", "--allow-empty", "-m", "x"]):
        subprocess.run([*git, *command], check=True)


def test_a_run_notes_the_files_that_it_uses(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Not those that it does not use; and the suite's commit is not enough where a file is not in it."""
    used, idle = (Path(own_method(tmp_path / f"{name}.py", name, name)) for name in ("own_used", "own_idle"))
    for plugin in (used, idle):
        load_plugin(plugin)
    spec = small.spec(small.student("own_used"))
    entry = {"path": str(used), "sha256": sha256(used)}
    monkeypatch.setattr(version, "CLONE", tmp_path)
    committed(tmp_path, idle.name)
    assert noted(spec, dirty=False) == {"dirty": True, "plugins": [entry]}
    assert noted(small.spec(small.student("kd")), dirty=False) == {"dirty": False, "plugins": []}
    committed(tmp_path, used.name)
    assert noted(spec, dirty=False) == {"dirty": False, "plugins": [entry]}
    assert noted(spec, dirty=None) == {"dirty": None, "plugins": [entry]}
    used.write_text(used.read_text() + "\n")
    assert noted(spec, dirty=False) == {"dirty": True, "plugins": [entry]}  # what was imported, not what lies there now


def test_a_new_file_in_the_packages_makes_the_code_dirty(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    committed(tmp_path, ".")
    monkeypatch.setattr(version, "CLONE", tmp_path)
    for file, dirty in (("notes.txt", False), ("sskd/methods/mine.py", True)):
        (tmp_path / file).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / file).write_text("")
        version.code.cache_clear()
        assert version.code()["dirty"] is dirty
    version.code.cache_clear()


def test_an_edit_while_a_run_was_interrupted_is_told(suite: Suite) -> None:
    spec = next(cell.spec for cell in suite.cells() if cell.row == "Edited")
    for run in (*spec.dependencies, spec):
        shutil.rmtree(suite.runs / run.id)  # it only looked finished
    for needed in spec.dependencies:
        train(needed, suite.runs, small.EXECUTION)
    with pytest.raises(Interrupted):
        train(spec, suite.runs, small.EXECUTION, should_stop=lambda: True)
    first = sha256(suite.plugin)
    suite.edit()
    suite.cells()
    result = train(spec, suite.runs, small.EXECUTION)
    assert [entry["sha256"] for entry in result["machine"]["plugins"]] == [first, sha256(suite.plugin)]
    assert changed_since(spec, result) == "edited.py has changed"
