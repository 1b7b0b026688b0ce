"""run_all.py export DIR: every finished student of a suite."""

from pathlib import Path

import pytest

from sskd import load_exported
from tests.cluster.suite import Suite


def test_every_finished_student(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    suite = Suite(tmp_path, "--only", "comparison", methods=["none", "kd"])
    assert suite.run("export", str(tmp_path / "home")) == 2
    assert "no student to export: 0 of 2" in capsys.readouterr().err
    assert suite.run() == 0
    kd, none = suite.folder("-kd-"), suite.folder("-none-")
    assert suite.run("export", str(tmp_path / "home"), "--licence", "mit") == 0
    assert {path.name for path in (tmp_path / "home").iterdir()} == {kd.name, none.name}
    for run in (kd, none):
        assert load_exported(tmp_path / "home" / run.name)[1].network == "resnet8"
        assert "license: mit" in (tmp_path / "home" / run.name / "README.md").read_text()
    (none / "last.safetensors").unlink()
    capsys.readouterr()
    assert suite.run("export", str(tmp_path / "other")) == 0
    assert f"{none.name}: finished, but its weights " in capsys.readouterr().out
    assert [path.name for path in (tmp_path / "other").iterdir()] == [kd.name]
