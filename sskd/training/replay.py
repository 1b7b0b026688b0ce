"""Replays one epoch of a run from the state before it, to verify the run of another person."""

from pathlib import Path
from typing import Any, NamedTuple

from sskd.config.execution import Execution
from sskd.errors import UserError
from sskd.runs.epoch_state import State, read_state
from sskd.runs.files import read_json
from sskd.runs.run_folder import RunFolder
from sskd.runs.spec import RunSpec
from sskd.training.meter import Meter
from sskd.training.processes import train_in_processes
from sskd.training.run import Interrupted, StepEvent


class Replayed(NamedTuple):
    """The outcome of an epoch: the state after it, its row of metrics, and after the last epoch the result of the
    run."""

    state: State
    row: dict[str, Any]
    result: dict[str, Any] | None


def replay_epoch(
    spec: RunSpec, runs: Path, execution: Execution, rows: list[dict[str, Any]], start: State | None
) -> Replayed:
    """Trains the epoch after ``rows`` (metrics of the earlier epochs) from ``start``, the state after them, or from the
    beginning if there are none.

    ``runs`` is a folder with the runs that this run depends on; the folder of this run must not exist yet. Raises
    UserError if ``start`` is not a state of this run.
    """
    folder = RunFolder(runs, spec)
    folder.create()
    if start is not None:
        left_out = {"rows": rows, "seconds": 0.0, "plugins": [], "meter": Meter().state_dict(), "best": None}
        folder.save_checkpoint(start | left_out)
    done: list[dict[str, Any]] = []
    said: list[str] = []

    def report(event: StepEvent) -> None:
        if event.row is not None:
            done.append(event.row)

    try:
        execution = execution.model_copy(update={"keep_epochs": True})
        train_in_processes(spec, runs, execution, report, said.append, lambda: bool(done))
    except Interrupted:
        pass
    if not folder.epoch_state(len(rows) + 1).exists():  # ``start`` was unusable, so the run began from scratch
        raise UserError(f"the state after epoch {len(rows)} does not belong to {spec.id}: {'; '.join(said)}")
    result = dict(read_json(folder.result)) if folder.is_finished() else None
    return Replayed(read_state(folder.epoch_state(len(rows) + 1)), folder.read_metrics()[len(rows)], result)
