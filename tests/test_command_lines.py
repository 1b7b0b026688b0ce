"""Lists on a terminal and as JSON, and the weights of given teachers."""

import json
from pathlib import Path

import pytest

from benchmarks.commands.list import LISTS
from benchmarks.commands.main import main as suite
from benchmarks.planning.plan import check_teachers
from benchmarks.profiles.read import read_profile
from sskd.errors import UserError
from sskd.paths import config_names
from tests import small

KNOWN = {
    "methods": "crd",
    "networks": "resnet56",
    "datasets": "cifar100",
    "pretexts": "contrastive",
    "transformations": "rotation",
    "optimizers": "sgd",
    "schedules": "step",
    "augmentations": "standard",
    "benchmarks": "comparison",
    "profiles": "smoke",
    "teachers": "sskd:resnet20",
}


@pytest.mark.parametrize("kind", LISTS)
def test_lists(kind: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """The output is JSON, or lines that are no wider than the terminal."""
    assert suite(["list", kind, "--json"]) == 0
    assert KNOWN[kind] in {row["name"] for row in json.loads(capsys.readouterr().out)}
    monkeypatch.setenv("COLUMNS", "60")
    assert suite(["list", kind]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert max(len(line) for line in lines if " " in line.strip() or len(line) < 60) <= 60
    assert lines[0] == lines[0].lstrip()


@pytest.mark.parametrize("where", ["", "overrides.table3."])
def test_a_teachers_weights_alone_are_enough(where: str) -> None:
    """The network is the entry's key."""
    profile = read_profile("demo", [f"{where}teachers.resnet56.weights=a.pth"])
    given = profile.for_benchmark("table3").teachers["resnet56"]
    assert (given.network, given.weights) == ("resnet56", "a.pth")


@pytest.mark.parametrize("name", config_names("profiles"))
def test_no_profile_names_a_file_outside_of_where_it_is_started(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The message for a missing file names the setting that selects another file."""
    if name == "vit":
        pytest.importorskip("timm")
    monkeypatch.chdir("/")
    for teacher in read_profile(name, []).teachers.values():
        assert ".." not in Path(teacher.weights).parts
        assert not Path(teacher.weights).is_absolute()
        spec = small.spec(small.student("kd", teacher=teacher.model_dump(mode="json", exclude_defaults=True)))
        with pytest.raises(UserError, match=rf"no weights file \S+; .*--set teachers.{teacher.network}.weights=FILE"):
            check_teachers([spec], Path("data"))
