"""Where an epoch's numbers go beside metrics.jsonl: TensorBoard, Weights & Biases, MLflow, whichever is asked for.

None of them is needed, and none may cost a training: what fails is told in one line, and left. Each is in a form that
needs no network: TensorBoard's files and Weights & Biases' offline ones lie in the run's folder, MLflow's store beside
the run folders. A run that goes on continues what it has begun there: trackers.json in its folder holds the names.
"""

import fcntl
import importlib.util
import json
import os
import secrets
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, NamedTuple

from sskd.config.execution import TRACKERS, Execution
from sskd.errors import UserError
from sskd.runs.files import write_json
from sskd.runs.spec import RunSpec

NAMES = "trackers.json"  # in a run's folder: by tracker, what the run is called there
PROJECT = "sskd"
Numbers = Mapping[str, float]


class Tracker(NamedTuple):
    """One that is open. ``log``: an epoch's numbers, and which epoch of all stages it is, from 1. ``close``: whether
    the run has come to its end, or is interrupted."""

    log: Callable[[Numbers, int], None]
    close: Callable[[bool], None]


def chosen_trackers(execution: Execution) -> tuple[str, ...]:
    """Their names. UserError, with the line that installs it, where the package of one is missing."""
    if execution.trackers is None:
        return ("tensorboard",) if _installed("tensorboard") else ()
    for name in execution.trackers:
        if not _installed(name):
            raise UserError(
                f"execution.trackers names '{name}', which is not installed: pip install {TRACKERS[name]} or leave it"
            )
    return execution.trackers


def _installed(name: str) -> bool:
    return importlib.util.find_spec(name) is not None


@contextmanager
def tracked(
    spec: RunSpec, folder: Path, done: int, execution: Execution, log: Callable[[str], None]
) -> Iterator[Callable[[Mapping[str, Any], int], None]]:
    """Opens the trackers of a run that has ``done`` epochs behind it; yields what is told of each further one: its row
    of metrics.jsonl, and its number. UserError if the package of one is missing, and nothing else."""
    opened: dict[str, Tracker] = {}

    def attempt(name: str, action: Callable[[], Any]) -> Any:
        try:
            return action()
        except Exception as error:  # whatever a disk, a network or a library may raise
            opened.pop(name, None)
            reason = " ".join(str(error).split())[:200] or type(error).__name__
            log(f"{name} fails ({reason}): the run goes on without it, and metrics.jsonl has its numbers")
            return None

    for name in chosen_trackers(execution):
        tracker = attempt(name, lambda name=name: OPEN[name](spec, folder, done))  # type: ignore[misc]
        if tracker is not None:
            opened[name] = tracker

    def note(row: Mapping[str, Any], step: int) -> None:
        numbers = {key: value for key, value in row.items() if isinstance(value, int | float) and key != "epoch"}
        for name, tracker in list(opened.items()):
            attempt(name, lambda tracker=tracker: tracker.log(numbers, step))  # type: ignore[misc]

    finished = False
    try:
        yield note
        finished = True
    finally:
        for name, tracker in list(opened.items()):
            attempt(name, lambda tracker=tracker: tracker.close(finished))  # type: ignore[misc]


def _tensorboard(spec: RunSpec, folder: Path, done: int) -> Tracker:
    from torch.utils.tensorboard import SummaryWriter

    board = SummaryWriter(str(folder), purge_step=done + 1)  # epochs that a lost checkpoint has done again count once

    def log(numbers: Numbers, step: int) -> None:
        for name, value in numbers.items():
            board.add_scalar(name, value, step)

    return Tracker(log, lambda finished: board.close())


def _wandb(spec: RunSpec, folder: Path, done: int) -> Tracker:
    """Offline unless WANDB_MODE says otherwise: wandb sync sends it, and a run that went on becomes one there."""
    import wandb

    name = _name_in(folder, "wandb", lambda: secrets.token_hex(8))
    mode: Any = os.environ.get("WANDB_MODE", "offline")
    settings = wandb.Settings(silent=True, console="off", save_code=False, disable_git=True)
    run = wandb.init(
        project=os.environ.get("WANDB_PROJECT", PROJECT),
        id=name,
        name=spec.id,
        group=spec.role,
        config=spec.model_dump(mode="json"),
        dir=str(folder),
        mode=mode,
        resume="allow",
        settings=settings,
    )
    return Tracker(
        lambda numbers, step: run.log(dict(numbers), step=step), lambda finished: run.finish(int(not finished))
    )


def _mlflow(spec: RunSpec, folder: Path, done: int) -> Tracker:
    """A store of files beside the run folders, or what MLFLOW_TRACKING_URI names."""
    store = folder.parent.parent / "mlruns"
    os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
    os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "1")  # of a server that is away: an epoch waits for it
    if "MLFLOW_TRACKING_URI" not in os.environ:
        os.environ.setdefault("MLFLOW_ALLOW_FILE_STORE", "true")  # MLflow 3 wants to be asked for it
    from mlflow.entities import Metric, Param
    from mlflow.exceptions import MlflowException
    from mlflow.tracking import MlflowClient

    def begin() -> str:
        experiment = client.get_experiment_by_name(PROJECT)
        number = experiment.experiment_id if experiment else client.create_experiment(PROJECT)
        run = client.create_run(number, run_name=spec.id, tags={"sskd.run": spec.id})
        params = [Param(key, value[:500]) for key, value in _flat(spec.model_dump(mode="json", exclude_none=True))]
        for start in range(0, len(params), 100):
            client.log_batch(run.info.run_id, params=params[start : start + 100])
        return str(run.info.run_id)

    with _alone(store):  # two that begin at once would make two experiments
        client = MlflowClient(os.environ.get("MLFLOW_TRACKING_URI") or store.resolve().as_uri())
        name = _name_in(folder, "mlflow", begin)
        try:
            client.update_run(name, status="RUNNING")
        except MlflowException:  # the store was deleted since
            name = _name_in(folder, "mlflow", begin, anew=True)

    def log(numbers: Numbers, step: int) -> None:
        now = int(1000 * time.time())
        client.log_batch(name, metrics=[Metric(key, float(value), now, step) for key, value in numbers.items()])

    return Tracker(log, lambda finished: client.set_terminated(name, "FINISHED" if finished else "KILLED"))


OPEN: dict[str, Callable[[RunSpec, Path, int], Tracker]] = dict(
    zip(TRACKERS, (_tensorboard, _wandb, _mlflow), strict=True)
)


def _name_in(folder: Path, tracker: str, make: Callable[[], str], anew: bool = False) -> str:
    """What the run is called there: as noted in its folder, else what ``make`` gives, which is noted."""
    names: dict[str, str] = {}
    with suppress(OSError, ValueError):
        names = dict(json.loads((folder / NAMES).read_text(encoding="utf-8")))
    if anew or not isinstance(names.get(tracker), str):
        names[tracker] = make()
        write_json(folder / NAMES, names)
    return names[tracker]


@contextmanager
def _alone(store: Path) -> Iterator[None]:
    """No other process of this suite is in such a block; where the file system has no locks, it may be."""
    with store.with_name(f"{store.name}.lock").open("a", encoding="utf-8") as file:
        with suppress(OSError):
            fcntl.lockf(file, fcntl.LOCK_EX)
        yield


def _flat(value: Any, path: str = "") -> Iterator[tuple[str, str]]:
    """Nested mappings as pairs: "recipe.epochs", "240"."""
    if isinstance(value, dict):
        for key, item in value.items():
            yield from _flat(item, f"{path}.{key}" if path else str(key))
    else:
        yield path, str(value)
