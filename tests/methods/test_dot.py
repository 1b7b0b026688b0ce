"""DOT in runs: whose gradient moves what, and SGD where the momenta do not differ."""

from pathlib import Path
from typing import Any

import pytest
import torch

from sskd.errors import UserError
from sskd.training.checkpoint import RunState
from sskd.training.result import run_provenance
from sskd.training.setup import prepare
from sskd.training.step import train_step
from sskd.training.tasks import build_task
from tests import small


def stepped(method: Any, runs: Path, steps: int = 2) -> RunState:
    """A run after a few steps."""
    setup = prepare(small.spec(small.student(method)), runs, small.EXECUTION)
    run = RunState(setup, build_task(setup), run_provenance(setup))
    run.task.modules.train()
    for batch, _ in zip(run.loader.epoch(0), range(steps), strict=False):
        train_step(run, batch)
    return run


def test_each_gradient_has_a_buffer_where_it_reaches(runs: Path) -> None:
    """Beside CRD: the classifier has the task's alone, embeddings the distillation's, and what is before them both."""
    run = stepped({"name": "dot", "host": "crd"}, runs)
    parameters = {name: each for name, each in run.task.modules.named_parameters() if each.requires_grad}
    found = {name: set(run.optimizer.state[parameter]) for name, parameter in parameters.items()}
    classifier = {name for name in found if ".fc." in name}
    embeddings = {name for name in found if "embed_student" in name or "embed_teacher" in name}
    assert len(classifier) == 2
    assert embeddings
    for name, buffers in found.items():
        alone = {"task"} if name in classifier else {"distillation"} if name in embeddings else None
        assert buffers == (alone or {"task", "distillation"}), name


def test_without_a_difference_it_is_kd(runs: Path) -> None:
    dot, kd = (stepped(method, runs) for method in ({"name": "dot", "momentum_difference": 0.0}, {"name": "kd"}))
    for found, wanted in zip(dot.stage.parameters, kd.stage.parameters, strict=True):
        torch.testing.assert_close(found, wanted, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize(
    "recipe", [{"nesterov": True}, {"optimizer": "adamw"}, {"precision": "fp16"}, {"processes": 2}, {"mixup": 0.8}]
)
def test_what_it_cannot_do_is_refused_before_anything_is_read(recipe: dict[str, object]) -> None:
    with pytest.raises(UserError, match="method 'dot' "):
        small.spec(small.student("dot", recipe=small.RECIPE | recipe))
