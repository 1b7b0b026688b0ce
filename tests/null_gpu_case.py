"""What tests/test_null_gpu.py runs in a process with a null GPU: python -m tests.null_gpu_case CASE. It ends with 0, or
with what went wrong."""

import sys
import tempfile
import warnings
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import null_gpu
import torch

from perf import null
from perf.gpu.steps import find_sync
from perf.null_gpu_table import measured
from perf.steps import begin, full_batches
from sskd.config.execution import Execution
from sskd.errors import UserError
from sskd.methods.kd import KD
from sskd.training import run as training_run
from sskd.training import step as training_step
from sskd.training.checkpoint import RunState
from sskd.training.graphs import GraphedStep, capture_cuda
from sskd.training.run import Interrupted, train
from sskd.training.setup import prepare
from sskd.training.step import train_step
from sskd.training.tasks import build_task
from tests import small

RECIPE = small.RECIPE | {"epochs": 3, "batch_size": 16, "full_epochs": 3, "milestones": [2]}
ON_GPU = Execution(dataset_root="data", device="cuda", graphs="on")
captures = 0


def capture(work: Callable[[], None], generators: Any) -> Callable[[], None]:
    global captures
    captures += 1
    return capture_cuda(work, generators)


def student(precision: str, runs: Path, method: Any = "kd", **recipe: Any) -> Any:
    spec = small.spec(small.student(method, recipe=RECIPE | {"precision": precision} | recipe))
    for needed in spec.dependencies:
        small.train_all(needed, runs)
    return spec


def whole_runs(runs: Path) -> None:
    """Trains runs in each precision, with a learning rate that falls and one that changes at every step, interrupted
    within an epoch."""
    for precision, schedule in (("fp32", "step"), ("bf16", "cosine"), ("fp16", "step")):
        spec = student(precision, runs, schedule=schedule)
        before, asked = captures, 0

        def stopped() -> bool:
            nonlocal asked
            asked += 1
            return asked == 6

        try:
            train(spec, runs, ON_GPU, should_stop=stopped)
            raise AssertionError("it was not stopped")
        except Interrupted:
            pass
        kept = torch.load(runs / spec.id / "resume.pt", weights_only=True)
        assert type(kept["optimizer"]["param_groups"][0]["lr"]) is float, (
            "a rate on the device is none of a checkpoint's"
        )
        try:
            train(spec, runs, ON_GPU)
        except UserError as error:  # what is not computed may be NaN, which no result may hold
            if "not finite" not in str(error):
                raise
        # once before the stop and once after it: a rate that lies on the device changes without a new graph
        assert captures == before + 2, f"{precision}: {captures - before} captures"


def every_kind(runs: Path) -> None:
    """A step of the teacher, of each pretext's head and of some methods: no wait, one graph."""
    specs = {"teacher": small.spec(small.teacher(recipe=RECIPE))}
    heads = ("jigsaw", "exemplar", {"name": "contrastive", "transformation": "paper"})
    specs |= {str(head): small.spec(small.head(head, recipe=RECIPE)) for head in heads}
    specs |= {name: student("bf16", runs, name) for name in ("ft", "ctkd")}
    specs["crd"] = student("bf16", runs, {"name": "crd", "negatives": 32})
    specs["strong"] = student("bf16", runs, augmentation="strong")
    for name, spec in specs.items():
        setup = prepare(spec, runs, ON_GPU)
        task = build_task(setup)
        for number, stage in enumerate(task.stages):
            run = RunState(setup, task, {"plugins": []})
            run.stage_number = number
            run.enter_stage()
            for module in stage.trained:
                module.train()
            row = measured(f"{name}, {stage.name}", "", run)
            assert row.good, row


def careless(runs: Path) -> None:
    """A method that waits: told, and eager."""
    terms = KD.loss_terms

    def waiting(self: KD, *args: Any) -> Any:
        torch.tensor([1.0], device="cuda")
        return terms(self, *args)

    KD.loss_terms = waiting  # type: ignore[method-assign]
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        train(student("fp32", runs), runs, ON_GPU.model_copy(update={"graphs": "auto"}))
    told = [str(w.message) for w in caught if "cannot be captured as a CUDA graph" in str(w.message)]
    assert len(told) == 1, told
    assert "null_gpu_case.py" in told[0], told
    assert captures == 0
    run = begin(student("fp32", runs), runs, ON_GPU)
    batch = next(full_batches(run))
    waits = find_sync(lambda: train_step(run, batch), run.setup.device)
    assert str(waits).startswith("null_gpu_case.py:"), waits


def evaluation(runs: Path) -> None:
    """Evaluations after the first copy nothing to the device, and the teacher's ReLUs are fused."""
    setup = prepare(student("bf16", runs), runs, ON_GPU)
    task = build_task(setup)
    task.evaluate()
    null_gpu.reset()
    task.evaluate()
    assert null_gpu.counts()["h2d"] == null_gpu.counts()["h2d_pageable"] == 0, null_gpu.counts()
    assert setup.test.eval_batch_size == 2500
    assert not torch.backends.cudnn.allow_tf32
    run = RunState(setup, task, {"plugins": []})
    null_gpu.reset()
    task.distiller._teacher_features(next(iter(run.loader.epoch(0))))  # type: ignore[attr-defined]
    assert not [name for name in null_gpu.kernels() if "clamp" in name], "a ReLU of its own"


if __name__ == "__main__":
    null.labels_on_the_host()
    training_run._refuse_divergence = lambda run, means: None  # what is computed is undefined
    small.EXECUTION = Execution(dataset_root="data", device="cpu")
    training_step.GraphedStep = partial(GraphedStep, capture=capture)  # type: ignore[misc, assignment]
    with tempfile.TemporaryDirectory() as folder:
        globals()[sys.argv[1]](Path(folder))
