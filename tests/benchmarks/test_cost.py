"""The cost of a plan: multiply-adds by hand, time with several runs at once, and what a rate rests on."""

import itertools
import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from benchmarks.planning import cost
from benchmarks.planning.cost import Concurrency, PlanCost, makespan, run_multiply_adds
from benchmarks.planning.plan import Plan, make_plan
from benchmarks.profiles.read import read_profile
from sskd.data.datasets.registry import DatasetInfo
from sskd.pretext import PRETEXTS
from sskd.runs.spec import RunSpec
from tests import small
from tests.benchmarks.made import RESULT

DATA = DatasetInfo(100, 10, 32)


def alone(seed: int = 0, **changes: Any) -> RunSpec:
    """A student that needs nothing."""
    return small.spec(small.student("none", teacher=None, seed=seed, **changes))


def test_a_step_costs_three_forward_passes_of_the_student_and_one_of_the_teacher(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """One for itself, and two for the gradients with respect to activations and weights."""
    forward = {"resnet8": 10.0, "resnet20": 100.0}
    monkeypatch.setattr(cost, "forward_multiply_adds", lambda name, *rest: forward[name])
    given = {"run": small.teacher(network="resnet20")}
    student = small.spec(small.student("kd", teacher=given, split={"fraction": 0.5}))
    assert run_multiply_adds(student, DATA) == 2 * 50 * (3 * 10 + 100)  # two epochs of 50 images
    assert run_multiply_adds(small.spec(given["run"] | {"split": {}}), DATA) == 2 * 100 * 3 * 100


def test_a_heads_views_are_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    head, student = small.spec(small.head("rotation")), small.spec(small.student("sskd", with_head=True))
    before = run_multiply_adds(head, DATA), run_multiply_adds(student, DATA)
    for task in ("rotation", "contrastive"):
        monkeypatch.setattr(PRETEXTS[task], "view_transform", lambda settings: SimpleNamespace(views_per_image=2))
    assert (run_multiply_adds(head, DATA), run_multiply_adds(student, DATA)) == (before[0] / 2, before[1] / 2)


@pytest.mark.parametrize(
    ("runs", "machines", "seconds"),
    [
        (1, 1, 15),
        (2, 2, 9),  # 5 + 4 beside 2 + 2 + 2
        (8, 8, 9),
        (8, 1, 15),  # all share one GPU
        (4, 2, 4 + 3 + 4),  # two to a GPU: after four seconds the teacher is alone for its last three
    ],
)
def test_time_with_several_runs_at_once(runs: int, machines: int, seconds: float) -> None:
    """A teacher of 5 seconds, then KD's 4; three others of 2. What others wait for is first, and no run begins before
    what it needs."""
    kd = small.spec(small.student("kd"))
    others = [alone(seed) for seed in range(3)]
    (teacher,) = kd.dependencies
    each = {teacher.id: 5.0, kd.id: 4.0} | {spec.id: 2.0 for spec in others}
    plan = make_plan([*others, kd])
    assert makespan(plan, each, runs, machines) == seconds
    assert makespan(plan, {run: each[run] for run in each if run != teacher.id}, 2, 2) == 6  # it is finished


@pytest.fixture
def no_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    """A machine without a GPU, of which 7 multiply-adds a second are measured."""
    monkeypatch.setattr(cost, "measure_throughput", lambda *_: 7.0)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)


def estimate(plan: Plan, runs: Path, concurrency: Concurrency) -> PlanCost:
    return cost.plan_cost(plan, runs, read_profile("demo", []), concurrency)


WHOLE = RESULT | {epoch: {"epoch": 1, "test_top1": 50.0} for epoch in ("best", "last")}
TRAINED_HERE = WHOLE | {"seconds": 10.0, "machine": {"driver": None}}
TRAINED_ON_A_GPU = WHOLE | {"seconds": 1.0, "machine": {"driver": "550", "device": "NVIDIA A100-SXM4-80GB"}}


@pytest.mark.usefixtures("no_gpu")
@pytest.mark.parametrize(
    ("gpus", "gpu", "result", "rate", "words"),
    [
        (True, "", None, cost.ASSUMED_GPU_THROUGHPUT, "assumed"),
        (True, "", TRAINED_HERE, cost.ASSUMED_GPU_THROUGHPUT, "assumed"),  # a CPU's speed says nothing of GPUs
        (True, "", TRAINED_ON_A_GPU, None, "per GPU (from 1 finished run)"),
        (True, "a100", TRAINED_ON_A_GPU, None, "per GPU (from 1 finished run)"),
        (True, "H100", TRAINED_ON_A_GPU, cost.ASSUMED_GPU_THROUGHPUT, "H100"),
        (False, "", TRAINED_ON_A_GPU, 7.0, "measured now, training resnet8 on this machine's CPU"),
        (False, "", TRAINED_HERE, None, "(from 1 finished run)"),
        (None, "", TRAINED_ON_A_GPU, None, "per GPU (from 1 finished run)"),
        (None, "", TRAINED_HERE, None, "(from 1 finished run)"),
        (None, "", None, 7.0, "measured now"),
    ],
)
def test_a_rate_is_that_of_finished_runs_on_such_a_device(
    gpus: bool | None, gpu: str, result: dict[str, Any] | None, rate: float | None, words: str, tmp_path: Path
) -> None:
    """None: as the finished run had it."""
    one, other = alone(0), alone(1)
    if result:
        (tmp_path / one.id).mkdir()
        (tmp_path / one.id / "result.json").write_text(json.dumps(result))
    found = estimate(make_plan([one, other]), tmp_path, Concurrency(1, 1, gpus, 2.0, gpu))
    work = found.multiply_adds
    assert found.throughput == pytest.approx(rate or (result and work[one.id] / result["seconds"]))
    assert words in found.text
    assert found.seconds[other.id] == pytest.approx(work[other.id] / found.throughput + 2.0)  # to start


@pytest.mark.usefixtures("no_gpu")
@pytest.mark.parametrize(("gpus", "devices"), [(True, 8), (False, 1)])
def test_the_processes_of_a_run_have_a_gpu_each_or_share_the_cores(gpus: bool, devices: int, tmp_path: Path) -> None:
    plan = make_plan([alone(recipe=small.RECIPE | {"processes": 8})])
    found = estimate(plan, tmp_path, Concurrency(1, 1, gpus, 0.0))
    assert found.left == pytest.approx(sum(found.multiply_adds.values()) / found.throughput / devices)


@pytest.mark.parametrize(("name", "size", "batch", "timed"), [("resnet8", 32, 4, 4), ("resnet20", 64, 256, 8)])
def test_the_rate_is_that_of_training_steps_in_the_time_of_this_process(
    name: str, size: int, batch: int, timed: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Other programs on the machine do not change the estimate. A smaller batch is timed for a large network. Here each
    look at the clock is a second after the one before, so that three steps take four."""
    seconds = itertools.count()
    clock = SimpleNamespace(process_time=lambda: next(seconds) * torch.get_num_threads())
    monkeypatch.setattr(cost, "time", clock)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    found = cost.measure_throughput.__wrapped__(name, size, batch, seconds=3.5)
    assert found == pytest.approx(3 * timed * 3 * cost.forward_multiply_adds(name, size) / 4)
