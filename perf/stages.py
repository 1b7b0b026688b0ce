"""Ready-made training stages to time: the suite's own, with teachers and heads that were never trained."""

import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file

from sskd.config.execution import Execution
from sskd.config.recipe import Recipe
from sskd.data.batch import Batch
from sskd.methods import METHODS
from sskd.networks import build_network, feature_shapes
from sskd.pretext import PRETEXTS, PretextContext
from sskd.runs.spec import HeadSpec, StudentSpec, parse_spec
from sskd.training.setup import Setup, prepare
from sskd.training.stage import Stage
from sskd.training.tasks import build_task

CLASSES = {"cifar100": 100, "digits": 10}


def dataset_at(root: Path) -> str:
    """CIFAR-100 if its file is there, else the embedded digits: real images of 32 x 32 in either case."""
    return "cifar100" if (root / "cifar100.npz").exists() else "digits"


def make_stage(
    pair: str,
    method: Any,
    precision: str,
    root: Path,
    role: str = "student",
    execution: Execution | None = None,
) -> tuple[Setup, Stage]:
    """The main stage of a student (or of the head beside it) as run_all would train it, batch 64."""
    teacher_name, student_name = pair.split("/")
    dataset = dataset_at(root)
    with tempfile.TemporaryDirectory() as folder:
        weights = Path(folder) / "teacher.safetensors"
        save_file(build_network(teacher_name, CLASSES[dataset]).state_dict(), weights)
        common = {
            "dataset": {"name": dataset},
            "recipe": {"precision": precision},
            "teacher": {"network": teacher_name, "weights": str(weights)},
        }
        head = {"role": "head", "network": teacher_name, "pretext": "contrastive", **common}
        student = {"role": "student", "network": student_name, "method": method, **common}
        name = method if isinstance(method, str) else method["name"]
        if METHODS[name].needs_head:
            student["head"] = head | {"pretext": METHODS[name].head_task or "contrastive"}
        spec = parse_spec(head if role == "head" else student, "perf")
        if isinstance(spec, StudentSpec) and spec.head is not None:
            _save_untrained(spec.head, Path(folder))
        setup = prepare(spec, Path(folder), execution or Execution(dataset_root=str(root)))
        stage = build_task(setup).stages[-1]
    for module in stage.trained:
        module.train()
    return setup, stage


def _save_untrained(head: HeadSpec, runs: Path) -> None:
    context = PretextContext(feature_shapes(head.network).width, 2, head.network, CLASSES[head.dataset.name])
    made = PRETEXTS[head.pretext.name](head.pretext, context)
    (runs / head.id).mkdir()
    save_file(made.state_dict(), runs / head.id / "last.safetensors")


def stepper(setup: Setup, stage: Stage) -> Callable[[], None]:
    """One whole training step at a call: batch, loss, gradients, optimiser."""
    recipe = Recipe()
    optimizer = torch.optim.SGD(
        stage.parameters, lr=0.01, momentum=recipe.momentum, weight_decay=recipe.weight_decay, fused=True
    )
    batches = endless(setup, stage)

    def step() -> None:
        optimizer.zero_grad(set_to_none=True)
        total, _ = stage.loss(next(batches))
        total.backward()
        optimizer.step()
        stage.after_step()

    return step


def endless(setup: Setup, stage: Stage) -> Iterator[Batch]:
    """Full batches without end."""
    loader, epoch = setup.loader(stage.views, "main"), 0
    while True:
        yield from (batch for batch in loader.epoch(epoch) if len(batch.labels) == loader.batch_size)
        epoch += 1
