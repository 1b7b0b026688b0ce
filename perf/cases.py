"""All kinds of training steps (teacher, heads, every method's stages, SSKD with every pretext task and transformation),
as specs with an untrained teacher and untrained heads."""

from pathlib import Path
from typing import Any, NamedTuple

import torch
from safetensors.torch import save_file

from perf.steps import begin
from sskd.config.execution import Execution
from sskd.config.recipe import DatasetSpec
from sskd.data.datasets.registry import ImageData, load_dataset
from sskd.data.transformations import TRANSFORMATIONS
from sskd.methods import METHODS
from sskd.networks import build_network
from sskd.pretext import PRETEXTS
from sskd.runs.run_folder import RunFolder
from sskd.runs.spec import RunSpec, parse_spec

RATE = 0.001  # low, because runs that differ in the last bits diverge faster with a higher learning rate
FEW_BATCHES = 10.5
WHERE = "a case of perf"


class Case(NamedTuple):
    role: str  # teacher, head, student
    method: str = ""
    pretext: str = ""  # "": the method's default, if it has a pretext task
    transformation: str = ""  # "": the task's default

    @property
    def name(self) -> str:
        task = f"{self.pretext}{f' ({self.transformation})' if self.transformation else ''}"
        return " ".join(part for part in (self.method or self.role, task) if part)


def all_cases() -> list[Case]:
    """Returns every case in the registries."""
    tasks = [(name, transformation) for name in PRETEXTS for transformation in _transformations(name)]
    free = [task for task in tasks if PRETEXTS[task[0]].method in (None, "sskd")]
    return [
        Case("teacher"),
        *(Case("head", "", *task) for task in tasks),
        *(Case("student", method) for method in METHODS),
        *(Case("student", "sskd", *task) for task in free),
    ]


def _transformations(task: str) -> list[str]:
    """Returns the transformations that give the task different views; [""] if it has its own."""
    kind = PRETEXTS[task]
    views = {type(kind.view_transform(kind.Settings(name=task, transformation=name))) for name in TRANSFORMATIONS}
    return list(TRANSFORMATIONS) if len(views) > 1 else [""]


def dataset_at(root: Path) -> str:
    """Returns "cifar100" if its file exists, else "digits" (included); both have real images of 32 x 32 pixels."""
    return "cifar100" if (root / "cifar100.npz").exists() else "digits"


def small_images(root: Path) -> ImageData:
    """Returns the data set of ``dataset_at``, with its images in memory."""
    data = load_dataset(DatasetSpec(name=dataset_at(root)), root)
    assert isinstance(data, ImageData)
    return data


class Cases:
    """Builds the cases' specs with one untrained teacher, which is saved in the folder ``runs``. Everything is made on
    the CPU, from fixed seeds. pair: "teacher/student". batch: images per step. negatives: of CRD, with few images."""

    def __init__(self, runs: Path, root: Path, pair: str, batch: int = 64, negatives: int = 256) -> None:
        self.runs, self.root, self.batch, self.negatives = runs, root, batch, negatives
        self.teacher, self.student = pair.split("/")
        self.weights = runs / "teacher.safetensors"

    def spec(self, case: Case, precision: str, few: bool = False) -> RunSpec:
        """Returns the case's spec, with all images or with a few (epochs of ten steps and a smaller one). Writes its
        untrained teacher and head into the folder of runs."""
        images = len(small_images(self.root).train_images)
        recipe = {"epochs": 2, "milestones": [1], "full_epochs": 2, "batch_size": self.batch, "learning_rate": RATE}
        given: dict[str, Any] = {
            "dataset": {"name": dataset_at(self.root)},
            "split": {"fraction": min(1.0, FEW_BATCHES * self.batch / images) if few else 1.0},
            "recipe": recipe | {"precision": precision},
        }
        if case.role == "teacher":
            return parse_spec(given | {"role": "teacher", "network": self.teacher}, WHERE)
        if not self.weights.exists():
            self._save_teacher()
        given["teacher"] = {"network": self.teacher, "weights": str(self.weights)}
        if case.role == "head":
            return parse_spec(given | self._head(case), WHERE)
        kind = METHODS[case.method]
        method: dict[str, Any] = {"name": case.method}
        if case.method == "crd" and few:
            method["negatives"] = self.negatives
        student = given | {"role": "student", "network": self.student, "method": method}
        if not kind.needs_teacher:
            del student["teacher"]
        if kind.needs_head:
            head = given | self._head(case._replace(pretext=case.pretext or kind.head_task or "contrastive"))
            head["recipe"] = recipe | {"precision": "fp32"}
            self._save_head(parse_spec(head, WHERE))
            student["head"] = head
        return parse_spec(student, WHERE)

    def _head(self, case: Case) -> dict[str, Any]:
        task = {"name": case.pretext} | ({"transformation": case.transformation} if case.transformation else {})
        return {"role": "head", "network": self.teacher, "pretext": task}

    def _save_teacher(self) -> None:
        """Saves initial weights, with batch norm statistics of some images, so that activations are neither zero nor
        huge in any layer, as in a trained network."""
        torch.manual_seed(0)
        data = small_images(self.root)
        network = build_network(self.teacher, data.num_classes).train()
        with torch.no_grad():
            for module in network.modules():
                if isinstance(module, torch.nn.BatchNorm2d):
                    module.momentum = None  # None: cumulative mean
            network((data.train_images[:256].float() / 255 - 0.5) / 0.25)
        self.runs.mkdir(parents=True, exist_ok=True)
        save_file(network.state_dict(), self.weights)

    def _save_head(self, spec: RunSpec) -> None:
        folder = RunFolder(self.runs, spec)
        if not folder.weights("last").exists():
            folder.create()
            made = begin(spec, self.runs, Execution(dataset_root=str(self.root), device="cpu"))
            folder.write_weights("last", folder.weights_file(made.task.output.state_dict(), 0))
