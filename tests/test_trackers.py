"""Numbers go to TensorBoard, Weights & Biases and MLflow, each in its offline form, and none costs a training."""

import json
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest

from sskd.config.execution import Execution
from sskd.config.validation import from_dict
from sskd.console import trackers
from sskd.console.trackers import Tracker, chosen_trackers
from sskd.errors import UserError
from sskd.training.run import Interrupted, train
from tests import small

SPEC = small.spec(small.teacher(recipe=small.RECIPE | {"epochs": 3}))


def with_trackers(*names: str) -> Execution:
    return small.EXECUTION.model_copy(update={"trackers": names})


def train_with_a_break(runs: Path, execution: Execution) -> list[str]:
    """Two epochs, an interruption in the third, and the rest. Returns what was said."""
    said: list[str] = []
    asked = iter([False] * 4 + [True])  # of two steps an epoch
    with pytest.raises(Interrupted):
        train(SPEC, runs, execution, log=said.append, should_stop=lambda: next(asked))
    train(SPEC, runs, execution, log=said.append)
    return said


def losses_of_tensorboard(runs: Path) -> dict[int, float]:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    board = EventAccumulator(str(runs / SPEC.id))
    board.Reload()
    events = board.Scalars("loss")
    assert len(events) == len({event.step for event in events})
    return {event.step: event.value for event in events}


class Wandb(ModuleType):
    """Stands for Weights & Biases: the losses by step that its one run gets, and how its parts ended."""

    def __init__(self) -> None:
        super().__init__("wandb")
        self.Settings = dict
        self.ids: set[str] = set()
        self.losses: dict[int, float] = {}
        self.ends: list[int] = []

    def init(self, **given: Any) -> Any:
        assert (given["name"], given["mode"], given["resume"]) == (SPEC.id, "offline", "allow")
        self.ids.add(given["id"])
        return SimpleNamespace(log=self.log, finish=self.ends.append)

    def log(self, numbers: dict[str, float], step: int) -> None:
        assert step not in self.losses
        self.losses[step] = numbers["loss"]


def losses_of_wandb(runs: Path) -> dict[int, float]:
    wandb: Any = sys.modules["wandb"]
    assert len(wandb.ids) == 1
    assert wandb.ends == [1, 0]
    return dict(wandb.losses)


def losses_of_mlflow(runs: Path) -> dict[int, float]:
    from mlflow.tracking import MlflowClient

    client = MlflowClient((runs.parent / "mlruns").as_uri())
    experiment = client.get_experiment_by_name("sskd")
    assert experiment
    (run,) = client.search_runs([experiment.experiment_id])
    assert (run.info.run_name, run.info.status) == (SPEC.id, "FINISHED")
    assert run.data.params["recipe.epochs"] == "3"
    return {metric.step: metric.value for metric in client.get_metric_history(run.info.run_id, "loss")}


@pytest.mark.parametrize(
    ("name", "read"),
    [
        ("tensorboard", losses_of_tensorboard),
        ("wandb", losses_of_wandb),
        pytest.param("mlflow", losses_of_mlflow, marks=pytest.mark.slow),
    ],
)
def test_a_run_that_goes_on_is_one_run_there(
    name: str, read: Callable[[Path], dict[int, float]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "wandb", Wandb())
    if name != "wandb":
        pytest.importorskip(name)
    monkeypatch.setattr(trackers, "_installed", lambda _: True)
    for variable in ("MLFLOW_TRACKING_URI", "WANDB_MODE"):
        monkeypatch.delenv(variable, raising=False)
    monkeypatch.setenv("MLFLOW_ALLOW_FILE_STORE", "true")
    runs = tmp_path / "runs"
    assert train_with_a_break(runs, with_trackers(name)) == []
    rows = [json.loads(line) for line in (runs / SPEC.id / "metrics.jsonl").read_text().splitlines()]
    assert read(runs) == pytest.approx({number: row["loss"] for number, row in enumerate(rows, start=1)}, rel=1e-6)


@pytest.mark.parametrize("where", ["open", "log", "close"])
def test_one_that_fails_is_told_once_and_left(where: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    others: list[int] = []

    def fail(*_: Any) -> Any:
        raise OSError(28, "No space left on device")

    def broken(*_: Any) -> Tracker:
        if where == "open":
            fail()
        return Tracker(fail if where == "log" else lambda *_: None, fail if where == "close" else lambda *_: None)

    healthy = Tracker(lambda numbers, step: others.append(step), lambda finished: others.append(int(finished)))
    monkeypatch.setattr(trackers, "_installed", lambda name: True)
    monkeypatch.setattr(trackers, "OPEN", {"wandb": broken, "mlflow": lambda *_: healthy})
    said: list[str] = []
    train(SPEC, tmp_path, with_trackers("wandb", "mlflow"), log=said.append)
    reason = "[Errno 28] No space left on device"
    (line,) = said
    assert line.startswith("wandb failed")
    assert reason in line
    assert others == [1, 2, 3, 1]
    assert (tmp_path / SPEC.id / "result.json").exists()


def test_none_is_needed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(trackers, "_installed", lambda name: False)
    monkeypatch.setattr(trackers, "OPEN", {})
    train(SPEC, tmp_path, small.EXECUTION, log=lambda _: None)
    assert not list((tmp_path / SPEC.id).glob("events.*"))
    with pytest.raises(UserError, match="names 'mlflow', which is not installed: pip install mlflow-skinny"):
        train(SPEC, tmp_path / "other", with_trackers("mlflow"))


def test_which_are_chosen(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(trackers, "_installed", lambda name: name == "tensorboard")
    assert chosen_trackers(Execution()) == ("tensorboard",)
    assert chosen_trackers(Execution(trackers=())) == ()
    with pytest.raises(UserError, match="'tensorboard', 'wandb' or 'mlflow', found 'tensorbord'"):
        from_dict(Execution, {"trackers": ["tensorbord"]}, "test")
    with pytest.raises(UserError, match="named twice"):
        from_dict(Execution, {"trackers": ["wandb", "wandb"]}, "test")
