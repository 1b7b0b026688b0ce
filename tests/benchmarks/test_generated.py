"""Generated files are up to date, and lists that come from one are as those that are made from the code."""

import json
from pathlib import Path

import pytest

from benchmarks import listing
from benchmarks.generated import GENERATED
from sskd.places import CONFIGS


@pytest.mark.parametrize("file", GENERATED, ids=lambda file: file.name)
def test_it_is_up_to_date(file: Path) -> None:
    """If this fails: python -m benchmarks.generated"""
    assert file.read_text() == GENERATED[file]()


@pytest.mark.parametrize("kind", listing.KINDS)
def test_a_list_is_the_same_from_the_catalogue(kind: str) -> None:
    assert listing.rows_of(kind) == json.loads(json.dumps(listing.LISTS[kind]()))


def test_a_list_is_made_anew_when_its_files_have_changed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(listing.LISTS, "methods", lambda: [{"name": "made anew"}])
    assert len(listing.rows_of("methods")) > 20
    assert listing.rows_of("methods", with_plugins=True) == [{"name": "made anew"}]
    changed = tmp_path / "methods.yaml"
    changed.write_text((CONFIGS / "methods.yaml").read_text() + "# a remark\n")
    monkeypatch.setitem(listing.SOURCES, "methods", (*listing.SOURCES["methods"][:-1], changed))
    assert listing.rows_of("methods") == [{"name": "made anew"}]
