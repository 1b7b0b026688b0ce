"""A run's state: where it stands, what its stage trains with, its metrics so far; how that is saved and resumed."""

import hashlib
import math
import os
import time
from collections.abc import Callable
from typing import Any

import torch

from sskd.runs.files import write_json
from sskd.runs.run_folder import RunFolder
from sskd.runtime.distributed import wrap_in_ddp
from sskd.training.graphs import GraphedStep
from sskd.training.meter import Meter
from sskd.training.result import make_result, measured_with, run_provenance
from sskd.training.setup import Setup
from sskd.training.tasks import build_task
from sskd.training.tasks.stage import Loss, Stage, TrainingTask

# what torch's SGD and AdamW keep of a parameter; a user's own optimiser may keep other shapes under other names
AVERAGES = ("momentum_buffer", "exp_avg", "exp_avg_sq")
SAVE_SECONDS = 30.0  # between the checkpoints of a run on a GPU, where it did not become better: CRD's have 50 MB


class RunState:
    """A run under way. ``state_dict`` has all that decides how it goes on. Only ``train`` (run.py) moves it on."""

    def __init__(self, setup: Setup, task: TrainingTask, machine: dict[str, Any]) -> None:
        """machine: the run's provenance, taken now: the code on disk may be another when the run ends."""
        self.setup, self.task, self.machine = setup, task, machine
        self.measured_with = measured_with(setup)  # now: who taught, and not who lies there when the run ends
        self.stage_number = self.epoch = self.step = 0  # what comes next, all from 0
        self.rows: list[dict[str, Any]] = []  # of the epochs that are done
        self.best_weights: str | None = None  # sha256 of best.safetensors; None: not yet written, or not noted
        self.seconds = 0.0  # of training in the epoch under way, over all its interruptions
        self._clock, self._saved = time.perf_counter(), time.monotonic()
        self.enter_stage()

    @property
    def stage(self) -> Stage:
        """The stage that is under way."""
        return self.task.stages[self.stage_number]

    @property
    def in_main_stage(self) -> bool:
        """Whether the stage is the last one, whose epochs are measured."""
        return self.stage_number + 1 == len(self.task.stages)

    def enter_stage(self) -> None:
        """Gives the stage an optimiser of its own, over the parameters that it trains."""
        self.optimizer = self.stage.optimizer(self.stage.parameters, self.setup.spec.recipe)
        self.scaler = self._new_scaler()
        self.loader = self.setup.loader(self.stage.view_transform, self.stage.name)
        self.meter = Meter(self.setup.device)
        self.graph: GraphedStep | None = None  # of the stage's step, where it runs as one
        self._loss: Loss | None = None
        self._move_lr_to_device()

    @property
    def loss(self) -> Loss:
        """The stage's loss, whose gradients several processes average: all of them must ask for it at the same time."""
        if self._loss is None:
            self._loss = wrap_in_ddp(self.stage.loss, self.stage.parameters)
        return self._loss

    def _new_scaler(self) -> torch.amp.GradScaler:
        return torch.amp.GradScaler(self.setup.device.type, enabled=self.setup.precision == "fp16")

    def renew_scaler(self) -> None:
        """The scaler as it was before a step that was not done."""
        state, self.scaler = self.scaler.state_dict(), self._new_scaler()
        self.scaler.load_state_dict(state)

    def _move_lr_to_device(self) -> None:
        """On a GPU, PyTorch's fused optimisers read the learning rate there, where a graph of the step finds it as it
        is. Of others it stays a number, and a graph is of one."""
        self._lr = math.nan
        for group in self.optimizer.param_groups:
            if self.setup.device.type == "cuda" and group.get("fused"):
                group["lr"] = torch.tensor(float(group["lr"]), device=self.setup.device)

    def enter_unfinished_stage(self) -> bool:
        """Moves on to the next stage if this one is done; False when all are."""
        while self.epoch >= self.stage.epochs:
            if self.in_main_stage:
                return False
            self.stage_number, self.epoch = self.stage_number + 1, 0
            self.enter_stage()
        return True

    # --- counted on the host ------------------------------------------------------------------------------------

    def set_learning_rate(self) -> None:
        """Gives the optimiser the rate of the step that comes next."""
        before, self._lr = self._lr, self.stage.learning_rate_at(self.epoch + self.step / len(self.loader))
        for group in self.optimizer.param_groups if before != self._lr else ():
            if torch.is_tensor(group["lr"]):
                group["lr"].fill_(self._lr)
            else:
                group["lr"] = self._lr

    def start_clock(self) -> None:
        """Starts the clock: the time before does not count as training."""
        self._clock = time.perf_counter()

    def count_time(self) -> None:
        """Counts the time since the last call as training."""
        now = time.perf_counter()
        self.seconds, self._clock = self.seconds + now - self._clock, now

    def note_saved(self) -> None:
        """Notes that a checkpoint was written now."""
        self._saved = time.monotonic()

    def seconds_unsaved(self) -> float:
        """Returns the seconds since the last checkpoint, or since the run was started."""
        return time.monotonic() - self._saved

    def count_step(self, images: int) -> None:
        """Counts one step with that many images."""
        self.meter.count(images)
        self.step += 1
        self.count_time()

    def finish_epoch(self, row: dict[str, Any]) -> None:
        """Notes what the epoch gave; the next one begins with nothing."""
        self.rows.append(row)
        self.epoch, self.step, self.seconds = self.epoch + 1, 0, 0.0
        self.meter.reset()

    # --- rows of the main stage ---------------------------------------------------------------------------------

    def ends(self) -> list[str]:
        """Returns what the epoch that was just done is: "best", "last", both or neither."""
        last = self.in_main_stage and self.epoch == self.stage.epochs
        scored = self.in_main_stage and self.epoch > 0 and self.task.score
        best = (last or scored) and self.best() is self.rows[-1]
        return ["best"] * bool(best) + ["last"] * last

    def best(self) -> dict[str, Any]:
        """Returns the first epoch with the highest score, or the last epoch where there is no score."""
        return self.highest(f"test_{self.task.score}") if self.task.score else self._main_rows()[-1]

    def highest(self, score: str) -> dict[str, Any]:
        """Returns the first epoch whose ``score`` no other exceeds."""
        return max(self._main_rows(), key=lambda row: row[score])

    def _main_rows(self) -> list[dict[str, Any]]:
        return [row for row in self.rows if row["stage"] == self.task.stages[-1].name]

    def result(self) -> dict[str, Any]:
        """Returns the result of the run, whose epochs are all done."""
        last = self.rows[-1]
        rows = {"best": self.best(), "last": last}
        if "held_out_top1" in last:
            rows["chosen"] = self.highest("held_out_top1")
        return make_result(self.setup, self.task, rows, self.machine, self.measured_with) | {
            "seconds": round(sum(row["seconds"] + row["evaluation_seconds"] for row in self.rows), 1),
            "images_per_second": last["images_per_second"],
        }

    # --- saving and resuming ------------------------------------------------------------------------------------

    def state_dict(self) -> dict[str, Any]:
        """Returns all that decides how the run goes on, in types that load without executing code."""
        on_gpu = self.setup.device.type == "cuda"
        optimizer = self.optimizer.state_dict()
        for group in optimizer["param_groups"]:
            group["lr"] = float(group["lr"])  # wherever it lies now
        return {
            "run": self.setup.spec.id,
            "stage": self.stage_number,
            "epoch": self.epoch,
            "step": self.step,
            "seconds": self.seconds,
            "rows": self.rows,
            "plugins": self.machine["plugins"],
            "meter": self.meter.state_dict(),
            "modules": self.task.modules.state_dict(),
            "optimizer": optimizer,
            "scaler": self.scaler.state_dict(),
            "random": torch.get_rng_state(),
            "random_cuda": torch.cuda.get_rng_state(self.setup.device) if on_gpu else None,
        }

    def checkpoint(self) -> dict[str, Any]:
        """Returns the state and the digest of the file with the best weights so far."""
        return self.state_dict() | {"best": self.best_weights}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Raises whatever there is to raise where the state is not one of this run's; then this object is of no use."""
        if not isinstance(state, dict):
            raise ValueError("it is no checkpoint")
        found = state.get("run", self.setup.spec.id)  # earlier versions did not note it
        if found != self.setup.spec.id:
            raise ValueError(f"it is of the run {found}")
        missing = self.state_dict().keys() - {"run"} - state.keys()
        if missing:
            raise ValueError(f"it has no {', '.join(sorted(missing))}")
        self.stage_number = state["stage"]
        self.enter_stage()
        self.epoch, self.step, self.seconds = state["epoch"], state["step"], state["seconds"]
        self.rows, self.best_weights = state["rows"], state.get("best")
        # of a file that was edited while the run was interrupted, the result names both: it is of neither alone
        earlier = state.get("plugins", [])
        now = [entry for entry in self.machine["plugins"] if entry not in earlier]
        self.machine = self.machine | {"plugins": [*earlier, *now]}
        self._refuse_other_epochs()
        self.meter.load_state_dict(state["meter"])
        self.task.modules.load_state_dict(state["modules"])
        self.optimizer.load_state_dict(state["optimizer"])
        self._move_lr_to_device()
        for parameter, kept in self.optimizer.state.items():
            averages = [kept[name] for name in AVERAGES if torch.is_tensor(kept.get(name))]
            if any(value.shape != parameter.shape for value in averages):
                raise ValueError("its optimizer is of other modules")
        self.scaler.load_state_dict(state["scaler"])
        torch.set_rng_state(state["random"])
        if state["random_cuda"] is not None:
            torch.cuda.set_rng_state(state["random_cuda"], self.setup.device)

    def _refuse_other_epochs(self) -> None:
        done = sum(stage.epochs for stage in self.task.stages[: self.stage_number]) + self.epoch
        in_range = 0 <= self.epoch <= self.stage.epochs and 0 <= self.step <= len(self.loader)
        if not in_range or len(self.rows) != done:
            raise ValueError(f"{len(self.rows)} epochs are noted in it, and it goes on after {done}")
        if self.epoch and self.in_main_stage:
            self.best()  # raises where the rows lack the score


# --- files of a run ---------------------------------------------------------------------------------------------------


def start_or_resume(setup: Setup, folder: RunFolder, log: Callable[[str], None]) -> RunState:
    """Returns the run as its newest checkpoint left it, or at its beginning. A checkpoint that cannot be used is named
    to ``log`` and set aside."""
    machine = run_provenance(setup)
    for path in folder.checkpoints():
        run = RunState(setup, build_task(setup), machine)
        try:
            run.load_state_dict(torch.load(path, map_location="cpu", weights_only=True))
            _refuse_without_best(run, folder)
        except (torch.OutOfMemoryError, MemoryError):
            raise  # says nothing of the file
        except Exception as error:  # whatever comes of damaged or foreign content
            folder.quarantine_checkpoint(path, error, log)
        else:
            return run
    return RunState(setup, build_task(setup), machine)


def _refuse_without_best(run: RunState, folder: RunFolder) -> None:
    """ValueError if no file has the best weights so far, and the run does not go on with them."""
    if run.best_weights is None or (run.step == 0 and "best" in run.ends()):
        return
    if folder.find_best(run.best_weights) is None:
        raise ValueError("the weights of its best epoch are gone")


def restore_folder(folder: RunFolder, run: RunState) -> None:
    """Writes metrics and weights as the checkpoint has them, and removes the note of an earlier failure."""
    if run.step == 0:
        _save_weights(folder, _weights(run, folder))
    if run.best_weights is not None and (kept := folder.find_best(run.best_weights)) == folder.previous_best:
        os.replace(kept, folder.weights("best"))
    folder.rewrite_metrics(run.rows)
    folder.failure.unlink(missing_ok=True)
    if run.task.description is not None:
        write_json(folder.network, run.task.description)


def save_epoch(folder: RunFolder, run: RunState, row: dict[str, Any]) -> None:
    """Writes the checkpoint, then the weights, then the metrics.

    ``restore_folder`` writes from the checkpoint what a crash has prevented. On a GPU an epoch takes seconds, and not
    every epoch is worth a checkpoint. Weights are only written together with a checkpoint, which names them: epochs
    that are trained again may come out otherwise there.
    """
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
    """Returns the files of the epoch that was just done, if it is the best or the last; notes which is the best. After
    the last epoch the average of the weights is one of them, if there is one."""
    ends = run.ends()
    data = folder.weights_file(run.task.output.state_dict(), run.epoch) if ends else b""
    if "best" in ends:
        run.best_weights = hashlib.sha256(data).hexdigest()
    average = run.task.average if "last" in ends else None
    averages = {} if average is None else {"ema": folder.weights_file(average.network.state_dict(), run.epoch)}
    return dict.fromkeys(ends, data) | averages


def _save_weights(folder: RunFolder, weights: dict[str, bytes]) -> None:
    for epoch, data in weights.items():
        if not folder.weights(epoch).exists() or folder.weights(epoch).read_bytes() != data:
            folder.write_weights(epoch, data)
