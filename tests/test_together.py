"""Students that are trained together end as those that are trained one by one."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from sskd.config import RunSpec
from sskd.errors import UserError
from sskd.networks.frozen import FrozenNetwork
from sskd.together import sharing_key, train_together
from sskd.training import Interrupted
from tests import small
from tests.cluster.suite import Suite

# losses on taps, one with draws and banks of its own, one with an initial stage
METHODS: list[Any] = ["kd", "at", {"name": "crd", "negatives": 16}, {"name": "ab", "initial_epochs": 1}]


def students() -> list[RunSpec]:
    return [small.spec(small.student(method)) for method in METHODS]


@pytest.fixture(scope="module")
def alone(tmp_path_factory: pytest.TempPathFactory) -> Path:
    runs = tmp_path_factory.mktemp("alone")
    for spec in students():
        small.train_all(spec, runs)
    return runs


@pytest.fixture
def runs(tmp_path: Path, alone: Path) -> Path:
    """With the teacher, which is trained already."""
    teacher = students()[0].needs[0].id
    (tmp_path / teacher).symlink_to(alone / teacher)
    return tmp_path


def together(specs: list[RunSpec], runs: Path, should_stop: Any = lambda: False) -> list[Any]:
    silent = [lambda _: None] * len(specs)
    return train_together(specs, runs, small.EXECUTION, silent, lambda _: None, should_stop)


def assert_as_alone(runs: Path, alone: Path, specs: list[RunSpec]) -> None:
    for spec in specs:
        assert small.metrics(runs / spec.id) == small.metrics(alone / spec.id), spec.id
        ours, theirs = (load_file(folder / spec.id / "last.safetensors") for folder in (runs, alone))
        assert all(torch.equal(ours[name], theirs[name]) for name in theirs)


def test_together_as_alone(runs: Path, alone: Path) -> None:
    results = together(students(), runs)
    assert [result["id"] for result in results] == [spec.id for spec in students()]
    assert_as_alone(runs, alone, students())


def test_stopped_and_resumed_in_other_company(runs: Path, alone: Path) -> None:
    """Stopped after an uneven number of steps, so that they stand at different ones."""
    asked = iter([False] * 13 + [True] * 100)
    ends = together(students(), runs, lambda: next(asked))
    assert all(isinstance(end, Interrupted) for end in ends)
    first, *rest = students()
    small.train_all(first, runs)
    together(rest, runs)
    assert_as_alone(runs, alone, students())


def test_one_failure_costs_no_other(runs: Path, alone: Path) -> None:
    diverging = small.spec(small.student({"name": "at", "weight": 1e30}))
    lost = small.spec(small.student({"name": "rkd", "weight": 2.0}))
    blocked = runs / lost.id
    blocked.write_text("no folder can be made here")
    kd, *_ = students()
    ends = together([kd, diverging, lost], runs)
    assert ends[0]["id"] == kd.id
    assert isinstance(ends[1], UserError)
    assert "diverged" in str(ends[1])
    assert isinstance(ends[2], Exception)
    assert_as_alone(runs, alone, [kd])


def test_the_teacher_is_asked_once_for_all(runs: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    passes = 0
    whole = FrozenNetwork.features

    def counted(self: FrozenNetwork, images: torch.Tensor) -> Any:
        nonlocal passes
        passes += 1
        return whole(self, images)

    monkeypatch.setattr(FrozenNetwork, "features", counted)
    specs = students()[:3]
    together(specs[:1], runs)
    one, passes = passes, 0
    (runs / specs[0].id).rename(runs / "aside")
    together(specs, runs)
    assert passes == one > 0


def test_sskd_shares_its_views_with_its_kind_alone() -> None:
    sskd, half = (small.student({"name": "sskd", "ss_weight": w}, with_head=True) for w in (10.0, 5.0))
    keys = [
        sharing_key(small.spec(data)) for data in (sskd, half, small.student("kd"), small.student("none", teacher=None))
    ]
    assert keys[0] == keys[1]
    assert len(set(keys)) == 3
    other_seed = small.spec(small.student("kd", seed=1))
    assert sharing_key(other_seed) != keys[2]


def test_run_all_with_three_together(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    changes = {"methods": ["none", "kd", "at", "sp", "cc", "sskd"], "seeds": [0, 1]}
    plain = Suite(tmp_path / "plain", **changes)
    assert plain.run() == 0
    three = Suite(tmp_path / "three", **changes)
    assert three.run("--set", "execution.together=3") == 0
    assert three.metrics() == plain.metrics()
    assert len(three.metrics()) == 14
    assert three.run("--cluster", "local", "--set", "execution.together=3") == 2
    assert "execution.together is for --cluster inline" in capsys.readouterr().err


def test_run_all_keeps_what_did_not_fail(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    changes = {"methods": ["kd", {"name": "at", "weight": 1e30}, "sp"]}
    suite = Suite(tmp_path, **changes)
    assert suite.run("--set", "execution.together=3") == 2
    assert "diverged" in capsys.readouterr().err
    assert len(suite.metrics()) == 3  # the teacher and two students
    failed = json.loads((suite.folder("-at-") / "failed.json").read_text())
    assert failed["kind"] == "input"
