"""No view, augmentation, pretext task or evaluation makes the host wait for a device within a batch (methods: see
test_every_method). On the CPU nothing waits, so operations are looked at; tests/test_null_gpu.py sees it happen."""

from pathlib import Path
from typing import Any

import pytest
import torch

from sskd.config.recipe import Recipe
from sskd.data.augment import Augmentation
from sskd.data.augmentations import AUGMENTATIONS
from sskd.data.strong import WeakAndStrong
from sskd.data.transformations import TRANSFORMATIONS
from sskd.data.views import Rotated, Rotations, SingleView, ViewTransform
from sskd.pretext import PRETEXTS
from sskd.pretext.jigsaw import Puzzles
from sskd.runtime.device import constant
from sskd.training.setup import prepare
from sskd.training.tasks import build_task
from tests import small
from tests.waits import Waits

VIEWS: dict[str, ViewTransform] = {
    **{name: TRANSFORMATIONS[name] for name in TRANSFORMATIONS},
    **{type(views).__name__: views for views in (SingleView(), Rotations(), Rotated(), Puzzles(), WeakAndStrong())},
}


def changed(views: ViewTransform, augmentation: Augmentation) -> None:
    images = torch.randint(256, (6, 3, 16, 16), dtype=torch.uint8)
    views(images, augmentation, torch.Generator().manual_seed(1))


@pytest.mark.parametrize("name", list(VIEWS))
@pytest.mark.parametrize("augmentation", list(AUGMENTATIONS))
def test_no_view_waits(name: str, augmentation: str) -> None:
    made = AUGMENTATIONS[augmentation](Recipe())
    changed(VIEWS[name], made)  # tables are made once for each device
    with Waits() as waits:
        changed(VIEWS[name], made)
    assert not waits.lines


def test_what_waits_is_seen() -> None:
    values = torch.arange(4.0)
    for careless in (
        lambda: values.new_tensor([1.0]),
        lambda: torch.tensor([1.0]),
        lambda: values.sum().item(),
        lambda: values[values > 1],
        lambda: values.__setitem__(values > 1, 0.0),
        lambda: bool((values > 1).all()),
    ):
        with Waits() as waits:
            careless()
        assert waits.lines
        assert all("test_waits.py" in line for line in waits.lines)


def test_a_constant_is_made_once_and_can_be_learned_with() -> None:
    cpu = torch.device("cpu")
    with torch.inference_mode():
        first = constant((1.5, 2.5), torch.float32, cpu)
    assert constant((1.5, 2.5), torch.float32, cpu) is first
    weight = torch.ones(2, requires_grad=True)
    (weight * first).sum().backward()  # what is made in inference mode may not be kept for this
    assert weight.grad is not None
    assert weight.grad.tolist() == [1.5, 2.5]


HEADS: list[Any] = [*PRETEXTS, *({"name": name, "transformation": "paper"} for name in ("contrastive", "exemplar"))]


def assert_no_waits(spec: Any, runs: Path) -> None:
    """Runs two steps of the run's last stage."""
    setup = prepare(spec, runs, small.EXECUTION)
    stage = build_task(setup).stages[-1]
    for module in stage.trained:
        module.train()
    batches = setup.loader(stage.view_transform, stage.name).epoch(0)
    for batch in (next(batches), next(batches)):
        with Waits() as waits:
            total, _ = stage.loss(batch)
            total.backward()
            stage.after_step()
    assert not waits.lines


@pytest.mark.parametrize("pretext", HEADS, ids=str)
def test_no_head_and_no_transfer_waits(pretext: Any, runs: Path, tmp_path: Path) -> None:
    head = small.spec(small.head(pretext))
    assert_no_waits(head, runs)
    if pretext in ("contrastive", "hsakd"):  # students of these: test_every_method
        return
    small.link_needs(runs, tmp_path, head)
    small.train_all(head, tmp_path)
    assert_no_waits(small.spec(small.student("sskd", head=small.head(pretext))), tmp_path)
