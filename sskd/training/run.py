"""Trains one run, of any role and method: it only knows stages and named loss terms."""

import math
import time
from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path
from typing import Any, NamedTuple

import torch

from sskd.config.execution import Execution
from sskd.console.trackers import tracked
from sskd.errors import UserError
from sskd.runs.files import read_json
from sskd.runs.run_folder import RunFolder
from sskd.runs.spec import RunSpec
from sskd.runtime.device import synchronize
from sskd.runtime.distributed import any_rank, barrier, this_rank
from sskd.runtime.seeding import stream_seed
from sskd.training.checkpoint import RunState, restore_folder, save_epoch, start_or_resume
from sskd.training.result import given_result
from sskd.training.setup import prepare
from sskd.training.step import steps
from sskd.training.tasks import build_task


class Interrupted(Exception):
    """The run was asked to stop; its state is saved and it can be resumed."""


class StepEvent(NamedTuple):
    """Progress of a run, sent after every step (row is None) and after every epoch."""

    stage: str
    epoch: int  # from 1
    epochs: int
    step: int  # from 1
    steps: int
    # with a row: measured over the epoch; otherwise: of the steps submitted to the device, which a GPU may execute
    # hundreds of steps later
    images_per_second: float
    row: dict[str, Any] | None


OnStep = Callable[[StepEvent], None]


def train(
    spec: RunSpec,
    runs: Path,
    execution: Execution,
    on_step: OnStep = lambda event: None,
    log: Callable[[str], None] = print,
    should_stop: Callable[[], bool] = lambda: False,
) -> dict[str, Any]:
    """Trains the run in ``runs/<id>``, resuming it if it was started before, and returns its result (the content of
    result.json).

    Args:
        on_step: called after every step and every epoch, in rank 0 of several processes.
        log: called with messages for the user, in rank 0.
        should_stop: when it returns True, the state is saved inside the epoch and Interrupted is raised.

    A finished run is not trained again. Raises UserError for problems that the user can fix, and RunLocked if another
    process trains the run.
    """
    # 1. lock the folder; of several processes of a run, rank 0 writes and all read
    folder = RunFolder(runs, spec)
    is_rank_zero = this_rank().number == 0
    if not is_rank_zero:
        on_step, log = (lambda event: None), (lambda line: None)
    if is_rank_zero and not folder.is_finished():
        folder.create()
    with folder.locked() if is_rank_zero else nullcontext():
        if any_rank(folder.is_finished()):
            return dict(read_json(folder.result))

        # 2. data, device and precision; given weights are only evaluated
        if execution.threads:
            torch.set_num_threads(execution.threads)
        setup = prepare(spec, runs, execution)
        if not spec.trains:
            return folder.save_result(given_result(setup, build_task(setup))) if is_rank_zero else {}

        # 3. modules and stages, resumed from the newest usable checkpoint
        run = start_or_resume(setup, folder, log)
        barrier()  # all ranks have read the checkpoint
        if is_rank_zero:
            restore_folder(folder, run)

        # 4. the epochs of each stage
        with tracked(spec, folder.path, len(run.rows), execution, log) if is_rank_zero else nullcontext() as note:
            while run.enter_unfinished_stage():
                _begin_epoch(run)
                # 5. the steps of the epoch, without host-device synchronisation
                for images in steps(run):
                    run.count_step(images)
                    on_step(_event(run, None))
                    # 6. if any rank was asked to stop, save the state and end all
                    if any_rank(should_stop()):
                        if is_rank_zero:
                            folder.save_checkpoint(run.state_dict())
                        barrier()
                        where = f"epoch {run.epoch + 1} of {run.stage.epochs}"
                        raise Interrupted(f"{spec.id} was asked to stop; its state inside {where} is saved")
                # 7. evaluate and save the epoch; all ranks wait for it
                row = _measure_epoch(run, is_rank_zero)
                run.finish_epoch(row)
                if is_rank_zero:
                    save_epoch(folder, run, row)
                barrier()
                if note is not None:
                    note(row, len(run.rows))
                on_step(_event(run, row))

        # 8. the result, which marks the run as finished
        return folder.save_result(run.result()) if is_rank_zero else {}


# --- before and after an epoch's steps --------------------------------------------------------------------------------


def _begin_epoch(run: RunState) -> None:
    """Seeds the epoch's random numbers, and sets the stage's trained modules to train mode and all others to eval
    mode."""
    stage = run.stage
    if run.step == 0:
        torch.manual_seed(stream_seed(run.setup.spec.random_seed, "torch", stage.name, run.epoch))
    run.task.modules.eval()
    for module in stage.trained:
        module.train()
    stage.begin_epoch(run.epoch)
    run.start_clock()


def _measure_epoch(run: RunState, is_rank_zero: bool) -> dict[str, Any]:
    """Returns the epoch's row. Raises UserError if a mean is not finite."""
    synchronize(run.setup.device)
    run.count_time()
    means = run.meter.means()
    _refuse_divergence(run, means)
    started = time.perf_counter()
    measured: dict[str, float] = {}
    if is_rank_zero and run.in_main_stage:
        if run.task.score or run.epoch + 1 == run.stage.epochs:
            measured |= {f"test_{name}": value for name, value in run.task.evaluate().items()}
        measured |= {f"held_out_{name}": value for name, value in run.task.validate().items()}
    row = {
        "stage": run.stage.name,
        "epoch": run.epoch + 1,
        "rate": run.stage.learning_rate_at(run.epoch),
        **means,
        **measured,
        "seconds": round(run.seconds, 3),
        "evaluation_seconds": round(time.perf_counter() - started, 3),
        "images_per_second": round(run.meter.images / run.seconds, 1),
    }
    if run.loader.skipped:
        row["images_skipped"] = len(run.loader.skipped)  # corrupt files so far
    return row


def _refuse_divergence(run: RunState, means: dict[str, float]) -> None:
    bad = [name for name, value in means.items() if not math.isfinite(value)]
    if bad:
        raise UserError(
            f"{run.setup.spec.id} diverged in epoch {run.epoch + 1} of stage '{run.stage.name}': "
            f"{', '.join(bad)} not finite; a lower recipe.learning_rate may help"
        )


def _event(run: RunState, row: dict[str, Any] | None) -> StepEvent:
    """Returns the event of the step that has just finished, or of the epoch with its row."""
    epoch, steps = (row["epoch"] if row else run.epoch + 1), len(run.loader)
    speed = row["images_per_second"] if row else run.meter.images / max(run.seconds, 1e-9)
    return StepEvent(run.stage.name, epoch, run.stage.epochs, run.step or steps, steps, speed, row)
