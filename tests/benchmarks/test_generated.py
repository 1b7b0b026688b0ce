"""The pages that are generated from the code are up to date."""

import subprocess
import sys
from pathlib import Path

import pytest

from benchmarks import generated
from sskd.paths import ROOT


def test_they_are_up_to_date() -> None:
    """In a process of its own: other tests register networks and methods in theirs."""
    command = [sys.executable, "-m", "benchmarks.generated", "--check"]
    run = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=120)
    assert run.returncode == 0, run.stdout + run.stderr


def test_a_stale_file_is_named_and_written_anew(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    stale, fresh = tmp_path / "stale.md", tmp_path / "fresh.md"
    stale.write_text("old")
    fresh.write_text("same")
    monkeypatch.setattr(generated, "ROOT", tmp_path)
    monkeypatch.setattr(generated, "GENERATED", {stale: lambda: "new", fresh: lambda: "same"})
    monkeypatch.setattr(sys, "argv", ["generated", "--check"])
    assert generated.main() == 1
    assert capsys.readouterr().out == "stale.md is stale: python -m benchmarks.generated\n"
    assert stale.read_text() == "old"
    monkeypatch.setattr(sys, "argv", ["generated"])
    assert generated.main() == 0
    assert stale.read_text() == "new"
    stale.unlink()
    assert generated.main() == 0
    assert stale.read_text() == "new"
