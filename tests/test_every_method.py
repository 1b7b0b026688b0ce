"""Every registered method trains for real, is resumed to the same end, and never makes the device wait in a step."""

from pathlib import Path
from typing import Any

import pytest

from sskd.methods import METHODS
from sskd.runs.spec import RunSpec
from sskd.training.run import train
from sskd.training.setup import prepare
from sskd.training.tasks import build_task
from tests import small
from tests.waits import Waits

SHORTER = {"crd": {"negatives": 64}, **{name: {"initial_epochs": 1} for name in ("ab", "ft", "fsp")}}


def spec_of(method: str, **settings: Any) -> RunSpec:
    kind = METHODS[method]
    chosen = {"name": method, **SHORTER.get(method, {}), **settings}
    data = small.student(chosen)
    if kind.needs_head:
        data |= {"head": small.head(kind.head_task or "contrastive")}
    return small.spec(data if kind.needs_teacher else data | {"teacher": None})


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("shared")
    for task in ("contrastive", "hsakd"):
        small.train_all(small.spec(small.head(task)), path)
    return path


LONG = {"hsakd"}  # four views through branches of both networks
EVERY = [pytest.param(name, marks=pytest.mark.slow) if name in LONG else name for name in METHODS]


@pytest.mark.parametrize("method", EVERY)
def test_stopped_at_every_second_step_it_ends_the_same(method: str, shared: Path, tmp_path: Path) -> None:
    """Stops fall into initial stages too; after each, everything is built anew from what was saved."""
    spec, whole, parts = spec_of(method), tmp_path / "whole", tmp_path / "parts"
    small.link_needs(shared, whole, spec)
    small.link_needs(shared, parts, spec)
    result = train(spec, whole, small.EXECUTION)
    assert 0 <= result["last"]["test_top1"] <= 100
    assert small.train_with_stops(spec, parts, every=2) >= 3
    assert small.metrics(parts / spec.id) == small.metrics(whole / spec.id)


VARIANTS: list[dict[str, Any]] = [
    *({"method": name, "standardise": True} for name in ("kd", "dkd", "mlkd", "ctkd")),
    {"method": "ctkd", "host": "dkd"},
]


@pytest.mark.parametrize("variant", VARIANTS, ids=lambda variant: "-".join(map(str, variant.values())))
def test_other_hosts_and_standardised_logits_train(variant: dict[str, Any], shared: Path, tmp_path: Path) -> None:
    spec = spec_of(**variant)
    runs = tmp_path / "runs"
    small.link_needs(shared, runs, spec)
    train(spec, runs, small.EXECUTION)
    first, last = small.metrics(runs / spec.id)
    assert last["loss"] != first["loss"]


@pytest.mark.parametrize("method", list(METHODS))
def test_no_step_waits_for_the_device(method: str, shared: Path) -> None:
    """No .item(), no boolean indexing: in any stage, forward or backward, augmentation included."""
    setup = prepare(spec_of(method), shared, small.EXECUTION)
    stages = build_task(setup).stages
    assert stages[-1].views.per_image == METHODS[method].views_per_image
    for stage in stages:
        for module in stage.trained:
            module.train()
        batches = setup.loader(stage.views, stage.name).epoch(0)
        for _ in range(2):  # tables are made once for each device, in the first
            with Waits() as waits:
                total, _ = stage.loss(next(batches))
                total.backward()
                stage.after_step()
        assert not waits.lines


@pytest.mark.parametrize("method", ["crd", "at"])
def test_with_kd_beside_it(method: str, shared: Path, tmp_path: Path) -> None:
    spec = spec_of(method, kd_weight=1.0)
    runs = tmp_path / "runs"
    small.link_needs(shared, runs, spec)
    train(spec, runs, small.EXECUTION)
    row = small.metrics(runs / spec.id)[-1]
    assert row["loss"] == pytest.approx(
        row["loss_ce"] + row["loss_kd"] + spec.method.weight * row[f"loss_{method}"]  # type: ignore[union-attr]
    )
