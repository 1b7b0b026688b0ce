"""One loop for whatever is trained. It knows stages and named loss terms, and no role and no method."""

import hashlib
import math
import os
import time
from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path
from typing import Any, NamedTuple

import torch

from sskd.config.execution import Execution
from sskd.console.trackers import tracked
from sskd.errors import UserError
from sskd.runs.files import read_json, write_json
from sskd.runs.run_folder import RunFolder
from sskd.runs.spec import RunSpec
from sskd.runtime.device import synchronize
from sskd.runtime.distributed import any_rank, barrier, this_replica
from sskd.runtime.seeding import stream_seed
from sskd.training.result import measure_given, run_provenance, trained_result
from sskd.training.run_state import RunState
from sskd.training.setup import Setup, prepare
from sskd.training.steps import steps
from sskd.training.tasks import build_task

SAVE_SECONDS = 30.0  # between the checkpoints of a run on a GPU, where it did not become better: CRD's have 50 MB


class Interrupted(Exception):
    """The run was asked to stop; it saved its state and can be resumed."""


class StepEvent(NamedTuple):
    """What a progress display may show: sent after every step (row is None) and after every epoch."""

    run: str  # its id
    stage: str
    epoch: int  # from 1
    epochs: int
    step: int  # from 1
    steps: int
    # of an epoch that is done (with a row) as measured; before, of the steps that were given to the device: a GPU may
    # be behind by some hundred of them
    images_per_second: float
    row: dict[str, Any] | None


OnStep = Callable[[StepEvent], None]


def train(
    spec: RunSpec,
    runs: Path,
    execution: Execution,
    on_step: OnStep = lambda event: None,
    say: Callable[[str], None] = print,
    should_stop: Callable[[], bool] = lambda: False,
) -> dict[str, Any]:
    """Trains the run in ``runs/<id>`` from where it stands and returns its result (what result.json holds).

    ``on_step`` is told of every step and epoch, ``say`` of what a person should read. When ``should_stop`` answers
    True, the state is saved inside the epoch and Interrupted is raised. A finished run is not trained again. UserError
    for whatever the user can mend; RunHeld if another process trains the run.
    """
    # 1. the folder is this process's; of several processes of one run the first writes, and all read
    folder = RunFolder(runs, spec)
    first = this_replica().rank == 0
    if first and not folder.is_finished():
        folder.create()
    with folder.held() if first else nullcontext():
        if any_rank(folder.is_finished()):
            return dict(read_json(folder.result))

        # 2. data, device and precision; what is not trained is only measured
        if execution.threads:
            torch.set_num_threads(execution.threads)
        setup = prepare(spec, runs, execution)
        if not spec.trains:
            return _save_result(folder, measure_given(setup, build_task(setup))) if first else {}

        # 3. modules and stages, on from the newest checkpoint that fits
        run = _start_or_resume(setup, folder, say)
        barrier()  # until all have read
        if first:
            _tidy(folder, run)

        # 4. epoch after epoch, stage after stage
        with tracked(spec, folder.path, len(run.rows), execution, say) if first else nullcontext() as note:
            while run.enter_unfinished_stage():
                _begin_epoch(run)
                # 5. step after step; none of them waits for the device
                for images in steps(run):
                    run.count_step(images)
                    on_step(_event(run, None))
                    # 6. if any process was asked to stop, all save here and end
                    if any_rank(should_stop()):
                        if first:
                            folder.save_checkpoint(run.checkpoint())
                        barrier()
                        where = f"epoch {run.epoch + 1} of {run.stage.epochs}"
                        raise Interrupted(f"{spec.id} was asked to stop, and is saved inside {where}")
                # 7. what the epoch gave is measured, noted and saved; no process goes on before it is
                row = _measure_epoch(run, first)
                run.finish_epoch(row)
                if first:
                    _save_epoch(run, folder, row)
                barrier()
                if note is not None:
                    note(row, len(run.rows))
                on_step(_event(run, row))

        # 8. the result, which marks the run as finished
        return _save_result(folder, trained_result(run)) if first else {}


# --- before and after an epoch's steps --------------------------------------------------------------------------------


def _start_or_resume(setup: Setup, folder: RunFolder, say: Callable[[str], None]) -> RunState:
    """The run as its newest checkpoint left it, or at its beginning. One that does not fit is named and set aside."""
    machine = run_provenance(setup)
    for path in folder.checkpoints():
        run = RunState(setup, build_task(setup), machine)
        try:
            run.load_state_dict(torch.load(path, map_location="cpu", weights_only=True))
            _refuse_without_best(run, folder)
        except (torch.OutOfMemoryError, MemoryError):
            raise  # says nothing of the file
        except Exception as error:  # whatever comes of damaged or foreign content
            folder.set_checkpoint_aside(path, error, say)
        else:
            return run
    return RunState(setup, build_task(setup), machine)


def _refuse_without_best(run: RunState, folder: RunFolder) -> None:
    """ValueError if the best weights so far are in no file, and are not those that the run goes on with."""
    if run.best_weights is None or (run.step == 0 and "best" in run.ends()):
        return
    if folder.find_best(run.best_weights) is None:
        raise ValueError("the weights of its best epoch are gone")


def _tidy(folder: RunFolder, run: RunState) -> None:
    """The folder has what the checkpoint says, weights too, and no trace of a failure before it."""
    if run.step == 0:
        _save_weights(folder, _weights(run, folder))
    if run.best_weights is not None and (kept := folder.find_best(run.best_weights)) == folder.previous_best:
        os.replace(kept, folder.weights("best"))
    folder.rewrite_metrics(run.rows)
    folder.failure.unlink(missing_ok=True)
    if run.task.description is not None:
        write_json(folder.network, run.task.description)


def _save_result(folder: RunFolder, result: dict[str, Any]) -> dict[str, Any]:
    folder.save_result(result)
    return result


def _begin_epoch(run: RunState) -> None:
    """The epoch's random numbers; only what the stage trains is in train mode."""
    stage = run.stage
    if run.step == 0:
        torch.manual_seed(stream_seed(run.setup.spec.random_seed, "torch", stage.name, run.epoch))
    run.task.modules.eval()
    for module in stage.trained:
        module.train()
    stage.begin_epoch(run.epoch)
    run.start_clock()


def _measure_epoch(run: RunState, first: bool) -> dict[str, Any]:
    """The epoch's row. UserError if a mean is not finite."""
    synchronize(run.setup.device)
    run.count_time()
    means = run.meter.means()
    _refuse_divergence(run, means)
    started = time.perf_counter()
    measured: dict[str, float] = {}
    if first and run.in_main_stage:
        if run.task.score or _is_last(run, run.epoch + 1):
            measured |= {f"test_{name}": value for name, value in run.task.evaluate().items()}
        measured |= {f"held_out_{name}": value for name, value in run.task.held_out().items()}
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
        row["images_skipped"] = len(run.loader.skipped)  # corrupt files, so far
    return row


def _is_last(run: RunState, epochs: int) -> bool:
    """Whether the run is done after so many epochs of this stage."""
    return run.in_main_stage and epochs == run.stage.epochs


def _refuse_divergence(run: RunState, means: dict[str, float]) -> None:
    bad = [name for name, value in means.items() if not math.isfinite(value)]
    if bad:
        raise UserError(
            f"{run.setup.spec.id} diverged in epoch {run.epoch + 1} of stage '{run.stage.name}': "
            f"{', '.join(bad)} not finite; a lower recipe.learning_rate may help"
        )


def _save_epoch(run: RunState, folder: RunFolder, row: dict[str, Any]) -> None:
    """The checkpoint, then the weights, then the metrics: what a crash keeps from being written, ``_tidy`` writes from
    the checkpoint. On a GPU an epoch takes seconds, and not every one is worth a checkpoint; weights always go with
    one, which names them: epochs that are trained again may come out otherwise there."""
    weights = _weights(run, folder)
    keep = run.setup.execution.keep_epochs
    if keep:
        folder.keep_epoch(len(run.rows), run.state_dict())
    if weights or keep or run.setup.device.type != "cuda" or run.seconds_unsaved() >= SAVE_SECONDS:
        folder.save_checkpoint(run.checkpoint())
        run.note_saved()
    _save_weights(folder, weights)
    folder.append_metrics(row)


def _weights(run: RunState, folder: RunFolder) -> dict[str, bytes]:
    """The files of the epoch that was just done, if it is the best or the last. The state notes which is the best."""
    ends = run.ends()
    data = folder.weights_file(run.task.output.state_dict(), run.epoch) if ends else b""
    if "best" in ends:
        run.best_weights = hashlib.sha256(data).hexdigest()
    return dict.fromkeys(ends, data)


def _save_weights(folder: RunFolder, weights: dict[str, bytes]) -> None:
    for epoch, data in weights.items():
        if not folder.weights(epoch).exists() or folder.weights(epoch).read_bytes() != data:
            folder.write_weights(epoch, data)


def _event(run: RunState, row: dict[str, Any] | None) -> StepEvent:
    """Of the step that was just done, or of the epoch with its row."""
    epoch, steps = (row["epoch"] if row else run.epoch + 1), len(run.loader)
    rate = row["images_per_second"] if row else run.meter.images / max(run.seconds, 1e-9)
    return StepEvent(run.setup.spec.id, run.stage.name, epoch, run.stage.epochs, run.step or steps, steps, rate, row)
