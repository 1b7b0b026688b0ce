"""Generated files are up to date, and lists that come from one are as those that are made from the code."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from benchmarks import generated, listing
from sskd.places import CONFIGS, ROOT


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


@pytest.mark.parametrize("kind", listing.SOURCES)
def test_a_list_comes_from_the_catalogue(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """If this fails: python -m benchmarks.generated"""
    monkeypatch.setitem(listing.LISTS, kind, list)
    assert listing.rows_of(kind) == json.loads(listing.CATALOGUE.read_text())[kind]["rows"] != []


def test_a_list_is_made_anew_when_its_files_have_changed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(listing.LISTS, "methods", lambda: [{"name": "made anew"}])
    assert len(listing.rows_of("methods")) > 20
    assert listing.rows_of("methods", with_plugins=True) == [{"name": "made anew"}]
    changed = tmp_path / "methods.yaml"
    changed.write_text((CONFIGS / "methods.yaml").read_text() + "# a remark\n")
    monkeypatch.setitem(listing.SOURCES, "methods", (*listing.SOURCES["methods"][:-1], changed))
    assert listing.rows_of("methods") == [{"name": "made anew"}]
