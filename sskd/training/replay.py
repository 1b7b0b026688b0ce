"""One epoch of a run again, from the state before it: what somebody does who checks the run of another."""

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
    """What an epoch came to: the state after it, its row of metrics, and after the last one the run's result."""

    state: State
    row: dict[str, Any]
    result: dict[str, Any] | None


def replay_epoch(
    spec: RunSpec, runs: Path, execution: Execution, rows: list[dict[str, Any]], start: State | None
) -> Replayed:
    """Trains the epoch after ``rows`` (the metrics of the epochs before it), from ``start``, the state after these, or
    from the run's own beginning where there are none.

    ``runs`` is a folder with the runs that this one needs; this one's folder in it must not exist yet. UserError where
    ``start`` is no state of this run.
    """
    folder = RunFolder(runs, spec)
    folder.create()
    if start is not None:
        folder.save_checkpoint(start | {"rows": rows, "seconds": 0.0, "plugins": [], "meter": Meter().state_dict()})
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
    if start is not None and not folder.epoch_state(len(rows) + 1).exists():  # it was refused, and the run began anew
        raise UserError(f"the state after epoch {len(rows)} is none of {spec.id}: {'; '.join(said)}")
    result = dict(read_json(folder.result)) if folder.is_finished() else None
    return Replayed(read_state(folder.epoch_state(len(rows) + 1)), folder.read_metrics()[len(rows)], result)
