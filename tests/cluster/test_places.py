"""Results folders that cannot be: one line and status 2, before anything trains."""

import os
from pathlib import Path

import pytest

from tests.cluster.suite import Suite

PLACES = ["/proc/x", "file/x", "file", "a" * 300]


@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize("option", ["", "--detach", "cancel", "report"])
def test_one_line(
    tmp_path: Path, place: str, option: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("benchmarks.dispatch.launch.launch", lambda *_: pytest.fail("runs were started"))
    suite = Suite(tmp_path, methods=["none"])
    (tmp_path / "file").touch()
    status = suite.run(*([option] if option else []), "--results", str(tmp_path / place))
    shown = capsys.readouterr()
    assert status == 2
    assert shown.out == ""
    (line,) = shown.err.strip().splitlines()
    assert line.startswith("run_all: ")
    assert place in line


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_a_folder_that_may_not_be_written(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    suite = Suite(tmp_path, methods=["none"])
    suite.results.mkdir(mode=0o500)
    assert suite.run() == 2
    assert "cannot write results in" in capsys.readouterr().err
