"""Tests the recorded version of the code and the packages of a result."""

import importlib.metadata
import re
import subprocess
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path

import pytest
import yaml

import sskd
from benchmarks.dispatch.slurm_jobs import SUBMITIT
from sskd import version

ROOT = Path(__file__).parent.parent


@pytest.fixture(autouse=True)
def _fresh() -> Iterator[None]:
    for known in (version.code, version.packages):
        known.cache_clear()
    yield
    for known in (version.code, version.packages):
        known.cache_clear()


def repository(folder: Path) -> None:
    for command in (
        ["init", "-q"],
        ["-c", "user.name=a", "-c", "user.email=a@b", "commit", "-q", "--allow-empty", "-m", "x"],
    ):
        subprocess.run(["git", "-C", str(folder), *command], check=True)


def test_a_clones_commit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    repository(tmp_path)
    monkeypatch.setattr(version, "CLONE", tmp_path)
    commit = version.code()["commit"]
    assert re.fullmatch("[0-9a-f]{40}", commit)
    assert version.code() == {"version": sskd.__version__, "commit": commit, "dirty": False}
    assert version.describe() == f"sskd {sskd.__version__} (commit {commit[:12]})"


@pytest.mark.parametrize("inside", ["sources", None])
def test_without_a_clone_there_is_no_commit(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, inside: str | None
) -> None:
    """Installed, or unpacked within another project's repository: that project's commit says nothing of this code."""
    repository(tmp_path)
    if inside:
        (tmp_path / inside).mkdir()
    monkeypatch.setattr(version, "CLONE", tmp_path / inside if inside else None)
    assert version.code() == {"version": sskd.__version__, "commit": None, "dirty": None}
    assert version.describe() == f"sskd {sskd.__version__}"


def test_the_versions_of_what_is_needed_directly(monkeypatch: pytest.MonkeyPatch) -> None:
    needed = ["torch>=2.4", "pyyaml >= 6.0", "no-such-package", "pytest>=8.0; extra == 'dev'"]
    needed.append("timm>=1.0; extra == 'timm'")
    monkeypatch.setattr(importlib.metadata, "requires", lambda _: needed)
    found = version.packages()
    assert found.pop("timm", "1") == (importlib.metadata.version("timm") if find_spec("timm") else "1")
    assert found == {name: importlib.metadata.version(name) for name in ("pyyaml", "torch")}


def test_without_having_been_installed_no_versions_are_claimed(monkeypatch: pytest.MonkeyPatch) -> None:
    def absent(name: str) -> list[str]:
        raise importlib.metadata.PackageNotFoundError(name)

    monkeypatch.setattr(importlib.metadata, "requires", absent)
    assert version.packages() == {}


def test_the_constraints_name_every_dependency() -> None:
    lines = (ROOT / "constraints.txt").read_text().splitlines()
    pinned = dict(line.partition(";")[0].strip().lower().split("==") for line in lines if "==" in line)
    project = (ROOT / "pyproject.toml").read_text()
    needed = re.findall(r'^  "([\w-]+)(?:>=[\d.]+)?",', project, flags=re.MULTILINE)
    assert len(needed) > 20
    assert {name.lower() for name in needed} <= pinned.keys()
    assert pinned["submitit"] == SUBMITIT


def test_the_citation_is_of_this_version() -> None:
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text())
    assert citation["version"] == sskd.__version__
    assert citation["license"] == (ROOT / "LICENSE").read_text().split()[0]
    authors = [author["family-names"] for author in citation["preferred-citation"]["authors"]]
    assert authors == ["Xu", "Liu", "Li", "Loy"]


def test_the_lower_bounds_are_those_that_are_tested() -> None:
    """Every bound of pyproject.toml that constraints-lowest.txt names is the same there, and no package is left out."""
    lowest = dict(
        re.findall(r"^([\w-]+)==([\d.]+)$", (ROOT / "constraints-lowest.txt").read_text(encoding="utf-8"), re.M)
    )
    bounds = re.findall(r'"([\w-]+)>=([\d.]+)"', (ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    tested = {name.lower(): re.sub(r"(\.0)+$", "", version) for name, version in lowest.items()}
    found = {name.lower(): re.sub(r"(\.0)+$", "", version) for name, version in bounds if name.lower() in tested}
    assert found == tested
    assert {"torch", "torchvision", "numpy", "pydantic", "pillow", "timm", "onnx"} <= tested.keys()
