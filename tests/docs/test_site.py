"""The site of the documentation: every page and package is on it, and it builds without a warning."""

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.docs.reading import ROOT

API = sorted((ROOT / "docs" / "api").glob("*.md"))


def navigation(entry: Any) -> list[str]:
    """The pages of mkdocs.yml's nav, however deep they stand."""
    if isinstance(entry, dict):
        return [page for below in entry.values() for page in navigation(below)]
    return [page for below in entry for page in navigation(below)] if isinstance(entry, list) else [entry]


def test_every_page_is_in_the_navigation() -> None:
    listed = navigation(yaml.safe_load((ROOT / "mkdocs.yml").read_text())["nav"])
    pages = {str(path.relative_to(ROOT / "docs")) for path in (ROOT / "docs").rglob("*.md")} | {"tour.md"}
    assert sorted(listed) == sorted(pages)


def test_every_module_is_in_the_reference() -> None:
    """A package on a page brings all of its modules; what starts a program and the version are no reference."""
    shown = {line[4:] for page in API for line in page.read_text().splitlines() if line.startswith("::: ")}
    there = {f"sskd.{path.stem}" for path in (ROOT / "sskd").glob("*") if path.suffix == ".py" or is_package(path)}
    there |= {f"benchmarks.{path.stem}" for path in (ROOT / "benchmarks").glob("*") if is_package(path)}
    not_shown = {"sskd.__init__", "sskd.__main__", "sskd.version", "sskd.paths"}
    assert there - shown == not_shown


def is_package(path: Path) -> bool:
    return (path / "__init__.py").is_file()


@pytest.mark.slow
def test_the_site_builds_without_a_warning(tmp_path: Path) -> None:
    pytest.importorskip("mkdocs", reason="the extra 'docs' is not installed")
    environment = os.environ | {"NO_MKDOCS_2_WARNING": "1"}  # an advertisement of the theme's makers
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--quiet", "--site-dir", str(tmp_path / "site")]
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=600)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    methods = (tmp_path / "site" / "api" / "methods.html").read_text()
    assert 'id="sskd.methods.at.attention_loss"' in methods
    assert "Sum over the maps of the mean squared difference" in methods  # its docstring
    assert "95 % interval" in (tmp_path / "site" / "tour.html").read_text()  # what the notebook printed
