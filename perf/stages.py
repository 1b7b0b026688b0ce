"""Training stages of the suite for timing, with untrained teachers and heads."""

import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file

from sskd.config.execution import Execution
from sskd.config.recipe import DatasetSpec, Recipe
from sskd.data.batch import Batch
from sskd.data.datasets.registry import ImageData, load_dataset
from sskd.methods import METHODS
from sskd.networks import build_network
from sskd.runs.spec import HeadSpec, RunSpec, StudentSpec, parse_spec
from sskd.training.setup import Setup, prepare
from sskd.training.tasks import build_task
from sskd.training.tasks.head import new_head
from sskd.training.tasks.stage import Stage, TrainingTask

FOLDER = tempfile.TemporaryDirectory(
    prefix="sskd-perf-"
)  # exists as long as the process, because runs read their teacher's file
UNTRAINED = str(Path(FOLDER.name) / "untrained.safetensors")  # weights of the newest task's teacher
CLASSES = {"cifar100": 100, "digits": 10}


def dataset_at(root: Path) -> str:
    """Returns "cifar100" if its file exists, else "digits" (included); both have real images of 32 x 32 pixels."""
    return "cifar100" if (root / "cifar100.npz").exists() else "digits"


def small_images(root: Path) -> ImageData:
    """Returns the data set of ``dataset_at``, with its images in memory."""
    data = load_dataset(DatasetSpec(name=dataset_at(root)), root)
    assert isinstance(data, ImageData)
    return data


def make_stage(
    pair: str,
    method: Any,
    precision: str,
    root: Path,
    role: str = "student",
    execution: Execution | None = None,
) -> tuple[Setup, Stage]:
    """Returns the main stage of a student (or of its head), as the suite trains it, batch 64."""
    spec = make_spec(pair, precision, root, role, method=method)
    setup, task = make_task(spec, execution or Execution(dataset_root=str(root)))
    stage = task.stages[-1]
    for module in stage.trained:
        module.train()
    return setup, stage


def make_spec(
    pair: str, precision: str, root: Path, role: str = "student", method: Any = "kd", pretext: Any = "contrastive"
) -> RunSpec:
    """Returns the spec of the pair's teacher, of a head on it, or of the pair's student. ``make_task`` adds an
    untrained teacher.

    pretext: task of the head, also of a student's head if its method has one that is not fixed.
    """
    teacher_name, student_name = pair.split("/")
    common = {"dataset": {"name": dataset_at(root)}, "recipe": {"precision": precision}}
    if role == "teacher":
        return parse_spec({"role": "teacher", "network": teacher_name, **common}, "perf")
    common["teacher"] = {"network": teacher_name, "weights": UNTRAINED}
    head = {"role": "head", "network": teacher_name, "pretext": pretext, **common}
    student = {"role": "student", "network": student_name, "method": method, **common}
    kind = METHODS[method if isinstance(method, str) else method["name"]]
    if kind.needs_head:
        student["head"] = head | {"pretext": kind.head_task or pretext}
    return parse_spec(head if role == "head" else student, "perf")


def make_task(spec: RunSpec, execution: Execution) -> tuple[Setup, TrainingTask]:
    """Returns setup and task of the spec, with an untrained teacher and head."""
    if isinstance(spec, HeadSpec | StudentSpec) and spec.teacher is not None:
        network = build_network(spec.teacher.network, CLASSES[spec.dataset.name])
        save_file(network.state_dict(), UNTRAINED)
    setup = prepare(spec, Path(tempfile.mkdtemp(dir=FOLDER.name)), execution)
    if isinstance(spec, StudentSpec) and spec.head is not None:
        _save_untrained(spec.head, setup)
    return setup, build_task(setup)


def _save_untrained(head: HeadSpec, setup: Setup) -> None:
    run = setup.runs / head.id
    run.mkdir()
    save_file(new_head(setup, head).state_dict(), run / "last.safetensors")


def stepper(setup: Setup, stage: Stage) -> Callable[[], None]:
    """Returns a function that executes one training step: batch, loss, gradients, optimiser."""
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
    """Yields full batches forever."""
    loader, epoch = setup.loader(stage.view_transform, "main"), 0
    while True:
        yield from (batch for batch in loader.epoch(epoch) if len(batch.labels) == loader.batch_size)
        epoch += 1
