"""Sends the numbers of every epoch to trackers, in addition to metrics.jsonl: TensorBoard, Weights & Biases, MLflow.

All trackers are optional, and a tracker that fails must not stop the training: the run prints one line and continues
without it. None needs a network connection: TensorBoard's files and Weights & Biases' offline files are in the run's
folder, and MLflow's store is next to the run folders. A resumed run continues its earlier entry; trackers.json in its
folder has the ids.
"""

import importlib.util
import json
import os
import secrets
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, NamedTuple

from sskd.config.execution import Execution
from sskd.errors import UserError
from sskd.runs.files import hold, write_json
from sskd.runs.spec import RunSpec

NAMES = "trackers.json"  # in a run's folder: id of the run by tracker
PROJECT = "sskd"
PACKAGES = {"tensorboard": "tensorboard", "wandb": "wandb", "mlflow": "mlflow-skinny"}  # on PyPI; also extras
Numbers = Mapping[str, float]


class Tracker(NamedTuple):
    """An open tracker. ``log``: takes the numbers of an epoch, and the epoch's number over all stages, from 1.
    ``close``: takes True if the run is finished, False if it is interrupted."""

    log: Callable[[Numbers, int], None]
    close: Callable[[bool], None]


def chosen_trackers(execution: Execution) -> tuple[str, ...]:
    """Returns the names of the trackers. Raises UserError, with the pip command, if a package is missing."""
    if execution.trackers is None:
        return ("tensorboard",) if _installed("tensorboard") else ()
    for name in execution.trackers:
        if not _installed(name):
            raise UserError(
                f"execution.trackers names '{name}', which is not installed: pip install {PACKAGES[name]}, or remove it"
            )
    return execution.trackers


def _installed(name: str) -> bool:
    return importlib.util.find_spec(name) is not None


@contextmanager
def tracked(
    spec: RunSpec, folder: Path, done: int, execution: Execution, log: Callable[[str], None]
) -> Iterator[Callable[[Mapping[str, Any], int], None]]:
    """Opens the trackers of a run that has ``done`` finished epochs. Yields the function to call with the row of
    each further epoch and its number. Only raises UserError if the package of a tracker is missing."""
    opened: dict[str, Tracker] = {}

    @contextmanager
    def dropped_if_it_fails(name: str) -> Iterator[None]:
        try:
            yield
        except Exception as error:  # from a disk, a network or a library
            opened.pop(name, None)
            reason = " ".join(str(error).split())[:200] or type(error).__name__
            log(f"{name} failed ({reason}): the run continues without it; metrics.jsonl has all numbers")

    for name in chosen_trackers(execution):
        with dropped_if_it_fails(name):
            opened[name] = OPEN[name](spec, folder, done)

    def note(row: Mapping[str, Any], step: int) -> None:
        numbers = {key: value for key, value in row.items() if isinstance(value, int | float) and key != "epoch"}
        for name, tracker in list(opened.items()):
            with dropped_if_it_fails(name):
                tracker.log(numbers, step)

    finished = False
    try:
        yield note
        finished = True
    finally:
        for name, tracker in list(opened.items()):
            with dropped_if_it_fails(name):
                tracker.close(finished)


def _tensorboard(spec: RunSpec, folder: Path, done: int) -> Tracker:
    from torch.utils.tensorboard import SummaryWriter

    board = SummaryWriter(str(folder), purge_step=done + 1)  # drops entries of epochs that are trained again

    def log(numbers: Numbers, step: int) -> None:
        for name, value in numbers.items():
            board.add_scalar(name, value, step)

    return Tracker(log, lambda finished: board.close())


def _wandb(spec: RunSpec, folder: Path, done: int) -> Tracker:
    """Opens Weights & Biases, offline unless WANDB_MODE is set. `wandb sync` uploads the files and merges a resumed
    run."""
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
    """Opens MLflow with a file store next to the run folders, or with MLFLOW_TRACKING_URI."""
    store = folder.parent.parent / "mlruns"
    os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
    os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "1")  # an epoch waits for an unreachable server
    if "MLFLOW_TRACKING_URI" not in os.environ:
        os.environ.setdefault("MLFLOW_ALLOW_FILE_STORE", "true")  # required by MLflow 3
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

    with hold(store.with_name("mlruns.lock"), patience=60):  # two runs at the same time would create two experiments
        client = MlflowClient(os.environ.get("MLFLOW_TRACKING_URI") or store.resolve().as_uri())
        name = _name_in(folder, "mlflow", begin)
        try:
            client.update_run(name, status="RUNNING")
        except MlflowException:  # the store was deleted in the meantime
            name = _name_in(folder, "mlflow", begin, renew=True)

    def log(numbers: Numbers, step: int) -> None:
        now = int(1000 * time.time())
        client.log_batch(name, metrics=[Metric(key, float(value), now, step) for key, value in numbers.items()])

    return Tracker(log, lambda finished: client.set_terminated(name, "FINISHED" if finished else "KILLED"))


OPEN: dict[str, Callable[[RunSpec, Path, int], Tracker]] = {
    "tensorboard": _tensorboard,
    "wandb": _wandb,
    "mlflow": _mlflow,
}


def _name_in(folder: Path, tracker: str, make: Callable[[], str], renew: bool = False) -> str:
    """Returns the id of the run in the tracker: as stored in its folder, else the result of ``make``, which is then
    stored."""
    names: dict[str, str] = {}
    with suppress(OSError, ValueError):
        names = dict(json.loads((folder / NAMES).read_text(encoding="utf-8")))
    if renew or not isinstance(names.get(tracker), str):
        names[tracker] = make()
        write_json(folder / NAMES, names)
    return names[tracker]


def _flat(value: Any, path: str = "") -> Iterator[tuple[str, str]]:
    """Flattens nested mappings: "recipe.epochs", "240"."""
    if isinstance(value, dict):
        for key, item in value.items():
            yield from _flat(item, f"{path}.{key}" if path else str(key))
    else:
        yield path, str(value)
