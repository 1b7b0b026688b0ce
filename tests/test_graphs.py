"""A step as a CUDA graph: what is done when, seen on the CPU with graphs that record work and do it at a replay. That
CUDA takes the work is tested in test_null_gpu.py."""

import gc
import warnings
import weakref
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from sskd.errors import UserError
from sskd.training import step as training_steps
from sskd.training.checkpoint import RunState
from sskd.training.graphs import WARM_UP, GraphedStep, NotCapturable
from sskd.training.run import train
from sskd.training.setup import prepare
from sskd.training.tasks import build_task
from tests import small

CPU = torch.device("cpu")


class Recorder:
    """Captures as CUDA does: nothing is done before the replay."""

    def __init__(self) -> None:
        self.captures = self.replays = 0

    def __call__(self, work: Callable[[], None], generators: Sequence[torch.Generator]) -> Callable[[], None]:
        self.captures += 1

        def replay() -> None:
            self.replays += 1
            work()

        return replay


def refuse(work: Callable[[], None], generators: Sequence[torch.Generator]) -> Callable[[], None]:
    generators[0].seed()  # a spoilt capture may leave a generator anywhere
    raise NotCapturable("mine.py:3: operation not permitted when stream is capturing")


class Steps:
    """A body that notes what it was asked for, and what it drew."""

    def __init__(self, capture: Any, rows: int = 4) -> None:
        self.seen: list[tuple[list[int], float]] = []
        self.recovered = 0
        self.draws = torch.Generator()
        self.step = GraphedStep(self.body, rows, [self.draws], CPU, capture, self.recover)

    def body(self, positions: Tensor) -> None:
        self.seen.append((positions.tolist(), torch.rand(1, generator=self.draws).item()))

    def recover(self) -> None:
        self.recovered += 1


BATCHES = [torch.arange(4) + 4 * n for n in range(7)]


def eagerly(batches: Sequence[Tensor]) -> list[tuple[list[int], float]]:
    drawn = (torch.rand(1, generator=torch.Generator().manual_seed(n)).item() for n in range(len(batches)))
    return [(batch.tolist(), value) for batch, value in zip(batches, drawn, strict=True)]


@pytest.mark.parametrize(
    ("batches", "rates", "captures", "replays"),
    [
        pytest.param(BATCHES, [0.1] * 7, 1, 7 - WARM_UP, id="the first steps are real ones"),
        pytest.param([*BATCHES, torch.arange(2), *BATCHES], [0.1] * 15, 1, 14 - WARM_UP, id="a smaller last batch"),
        # of the step with the new rate nobody knows yet whether the next has it too
        pytest.param(BATCHES * 2, [0.1] * 7 + [0.01] * 7, 2, 14 - WARM_UP - 1, id="another rate is captured anew"),
        pytest.param(BATCHES, [0.1 / n for n in range(1, 8)], 0, 0, id="a rate of every step's own"),
    ],
)
def test_every_step_has_its_own_images_and_draws_once(
    batches: list[Tensor], rates: list[float], captures: int, replays: int
) -> None:
    recorder = Recorder()
    made = Steps(recorder)
    for number, (batch, rate) in enumerate(zip(batches, rates, strict=True)):
        made.step(batch, [number], rate)
    assert (recorder.captures, recorder.replays) == (captures, replays)
    assert made.seen == eagerly(batches)


def test_what_cannot_be_captured_runs_eagerly_from_then_on() -> None:
    made = Steps(refuse)
    for number, batch in enumerate(BATCHES):
        made.step(batch, [number])
    assert "mine.py:3" in made.step.fallback_reason
    assert made.recovered == 1
    assert made.seen == eagerly(BATCHES), "the step that was to be captured is done, once, with its own draws"


# --- the loop ---------------------------------------------------------------------------------------------------------

EPOCHS = 3
RECIPE = small.RECIPE | {"epochs": EPOCHS, "batch_size": 16, "full_epochs": EPOCHS, "milestones": [2]}
AS_SLOW = pytest.param("crd", "adamw", marks=pytest.mark.slow)


@pytest.fixture
def graphs(monkeypatch: pytest.MonkeyPatch) -> Recorder:
    """The CPU runs steps as a GPU does, but for the capture."""
    recorder = Recorder()
    monkeypatch.setattr(training_steps, "why_eager", lambda run: "")
    monkeypatch.setattr(training_steps, "GraphedStep", partial(GraphedStep, capture=recorder))
    return recorder


def weights(run: Path) -> bytes:
    return (run / "last.safetensors").read_bytes()


@pytest.mark.parametrize(("method", "optimizer"), [("kd", "sgd"), AS_SLOW])
def test_a_run_is_the_same_as_a_graph(
    method: str, optimizer: str, tmp_path: Path, graphs: Recorder, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Metrics and weights, with a smaller last batch and a rate that falls; stopped in the middle of epochs too."""
    settings: Any = {"name": "crd", "negatives": 32} if method == "crd" else method
    recipe = RECIPE | {"optimizer": optimizer, "learning_rate": 0.02 if optimizer == "sgd" else 0.001}
    spec = small.spec(small.student(settings, recipe=recipe))
    whole, parts = tmp_path / "whole", tmp_path / "parts"
    small.train_all(spec.dependencies[0], whole)
    small.train_all(spec.dependencies[0], parts)

    graphs.captures = 0
    train(spec, whole, small.EXECUTION)
    assert graphs.captures == 2, "one more at the milestone"
    small.train_with_stops(spec, parts, every=6)
    assert small.metrics(parts / spec.id) == small.metrics(whole / spec.id)
    assert weights(parts / spec.id) == weights(whole / spec.id)

    monkeypatch.undo()
    eager = tmp_path / "eager"
    small.train_all(spec, eager)
    assert small.metrics(eager / spec.id) == small.metrics(whole / spec.id)
    assert weights(eager / spec.id) == weights(whole / spec.id)


def run_of(execution: Any, tmp_path: Path, **changes: Any) -> RunState:
    setup = prepare(small.spec(small.teacher(recipe=RECIPE | changes)), tmp_path, execution)
    return RunState(setup, build_task(setup), {"plugins": []})


def test_a_graph_goes_with_its_run(tmp_path: Path) -> None:
    """The graph is freed without Python's cyclic garbage collector, because a suite trains many runs in one process."""
    run = run_of(small.EXECUTION, tmp_path)
    run.graph = training_steps.make_graph(run, run.loader)  # type: ignore[arg-type]
    graph = weakref.ref(run.graph)
    gc.disable()
    try:
        del run
        assert graph() is None
    finally:
        gc.enable()


def test_why_a_run_is_eager(tmp_path: Path) -> None:
    run = run_of(small.EXECUTION, tmp_path)
    assert training_steps.why_eager(run) == "its device is cpu"
    mixing = run_of(small.EXECUTION, tmp_path, cutmix=1.0)
    run.setup, mixing.setup = (each.setup._replace(device=torch.device("cuda", 0)) for each in (run, mixing))
    assert training_steps.why_eager(run) == ""
    assert training_steps.why_eager(mixing) == "the host draws how its images are mixed"
    for changes, reason in (
        ({"graphs": "off"}, "execution.graphs is off"),
        ({"compile": "reduce-overhead"}, "reduce-overhead"),
    ):
        run.setup = run.setup._replace(execution=small.EXECUTION.model_copy(update=changes))
        assert reason in training_steps.why_eager(run)


def test_graphs_that_are_asked_for_and_cannot_be_had(tmp_path: Path) -> None:
    execution = small.EXECUTION.model_copy(update={"graphs": "on"})
    with pytest.raises(UserError, match=r"execution.graphs is on, but .* cannot use CUDA graphs: its device is cpu"):
        train(small.spec(small.teacher()), tmp_path, execution)


@pytest.mark.parametrize("wanted", ["auto", "on"])
def test_a_step_that_waits(wanted: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A user's own method may: it is told once, and runs eagerly, unless graphs are a must."""
    monkeypatch.setattr(training_steps, "why_eager", lambda run: "")
    monkeypatch.setattr(training_steps, "GraphedStep", partial(GraphedStep, capture=refuse))
    spec = small.spec(small.teacher(recipe=RECIPE))
    execution = small.EXECUTION.model_copy(update={"graphs": wanted})
    if wanted == "on":
        with pytest.raises(UserError, match=r"cannot be captured as a CUDA graph: mine.py:3: .*graphs=auto"):
            train(spec, tmp_path, execution)
        return
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        train(spec, tmp_path, execution)
    told = [str(warning.message) for warning in caught if "CUDA graph" in str(warning.message)]
    assert len(told) == 1
    assert told[0].endswith("it runs eagerly")


def test_a_scaler_is_renewed_as_it_was(tmp_path: Path) -> None:
    run = run_of(small.EXECUTION, tmp_path)
    run.scaler = torch.amp.GradScaler("cpu", init_scale=8.0)
    run.scaler.scale(torch.ones(1))  # now it has a scale
    before = run.scaler
    run._new_scaler = lambda: torch.amp.GradScaler("cpu")  # type: ignore[method-assign]
    run.renew_scaler()
    assert run.scaler is not before
    assert run.scaler.state_dict() == before.state_dict()
