"""The state of a run during training, and how it is saved and resumed."""

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

# per-parameter state of torch's SGD and AdamW; the user's own optimisers may have other names and shapes
AVERAGES = ("momentum_buffer", "exp_avg", "exp_avg_sq")
SAVE_SECONDS = 30.0  # between checkpoints on a GPU, if there are no new best weights; CRD's have 50 MB


class RunState:
    """The state of a run during training. ``state_dict`` has everything that resuming needs. Only ``train`` (run.py)
    advances it."""

    def __init__(self, setup: Setup, task: TrainingTask, machine: dict[str, Any]) -> None:
        """machine: provenance of the run, computed at the start, because the code on disk may change before the run
        ends."""
        self.setup, self.task, self.machine = setup, task, machine
        self.measured_with = measured_with(setup)  # computed now: the teacher's file may be replaced during the run
        self.stage_number = self.epoch = self.step = 0  # the next ones, all from 0
        self.rows: list[dict[str, Any]] = []  # one per finished epoch
        self.best_weights: str | None = None  # sha256 of best.safetensors; None: not written yet, or unknown
        self.seconds = 0.0  # training time of the current epoch, including the time before interruptions
        self._clock = self.saved_at = time.perf_counter()  # the time of the last checkpoint, or of the start
        self.enter_stage()

    @property
    def stage(self) -> Stage:
        """The current stage."""
        return self.task.stages[self.stage_number]

    @property
    def in_main_stage(self) -> bool:
        """True in the last stage, whose epochs are evaluated."""
        return self.stage_number + 1 == len(self.task.stages)

    def enter_stage(self) -> None:
        """Creates the optimiser, loader and meter of the current stage."""
        self.optimizer = self.stage.optimizer(self.stage.parameters, self.setup.spec.recipe)
        self.scaler = self._new_scaler()
        self.loader = self.setup.loader(self.stage.view_transform, self.stage.name)
        self.meter = Meter(self.setup.device)
        self.graph: GraphedStep | None = None  # of the stage's step, if it runs as a CUDA graph
        self._loss: Loss | None = None
        self._move_lr_to_device()

    @property
    def loss(self) -> Loss:
        """The loss of the stage, wrapped in DDP if there are several processes: all ranks must first access it at
        the same time."""
        if self._loss is None:
            self._loss = wrap_in_ddp(self.stage.loss, self.stage.parameters)
        return self._loss

    def _new_scaler(self) -> torch.amp.GradScaler:
        return torch.amp.GradScaler(self.setup.device.type, enabled=self.setup.precision == "fp16")

    def renew_scaler(self) -> None:
        """Replaces the gradient scaler by a copy with the same state, after a step that was not executed."""
        state, self.scaler = self.scaler.state_dict(), self._new_scaler()
        self.scaler.load_state_dict(state)

    def _move_lr_to_device(self) -> None:
        """Moves the learning rate of PyTorch's fused optimisers to the GPU, so that a CUDA graph reads its current
        value. For other optimisers it stays a Python number, which a graph stores as a constant."""
        self._lr = math.nan
        for group in self.optimizer.param_groups:
            if self.setup.device.type == "cuda" and group.get("fused"):
                group["lr"] = torch.tensor(float(group["lr"]), device=self.setup.device)

    def enter_unfinished_stage(self) -> bool:
        """Enters the next stage if the current one is finished. Returns False if all stages are finished."""
        while self.epoch >= self.stage.epochs:
            if self.in_main_stage:
                return False
            self.stage_number, self.epoch = self.stage_number + 1, 0
            self.enter_stage()
        return True

    # --- counters on the host ------------------------------------------------------------------------------------

    def set_learning_rate(self) -> None:
        """Sets the optimiser's learning rate for the next step, if it changes: on a GPU it is a launch."""
        before, self._lr = self._lr, self.stage.learning_rate_at(self.epoch + self.step / len(self.loader))
        for group in self.optimizer.param_groups if before != self._lr else ():
            if torch.is_tensor(group["lr"]):
                group["lr"].fill_(self._lr)
            else:
                group["lr"] = self._lr

    def start_clock(self) -> None:
        """Starts the clock: earlier time does not count as training."""
        self._clock = time.perf_counter()

    def count_time(self) -> None:
        """Adds the time since the last call to the training time."""
        now = time.perf_counter()
        self.seconds, self._clock = self.seconds + now - self._clock, now

    def count_step(self, images: int) -> None:
        """Counts a step with ``images`` images."""
        self.meter.count(images)
        self.step += 1
        self.count_time()

    def finish_epoch(self, row: dict[str, Any]) -> None:
        """Adds the row of the finished epoch and resets the counters."""
        self.rows.append(row)
        self.epoch, self.step, self.seconds = self.epoch + 1, 0, 0.0
        self.meter.reset()

    # --- rows of the main stage ---------------------------------------------------------------------------------

    def ends(self) -> list[str]:
        """Returns "best", "last", both or neither: the role of the epoch that has just finished."""
        last = self.in_main_stage and self.epoch == self.stage.epochs
        scored = self.in_main_stage and self.epoch > 0 and self.task.score
        best = (last or scored) and self.best() is self.rows[-1]
        return ["best"] * bool(best) + ["last"] * last

    def best(self) -> dict[str, Any]:
        """Returns the row of the first epoch with the highest score, or of the last epoch if there is no score."""
        return self.highest(f"test_{self.task.score}") if self.task.score else self._main_rows()[-1]

    def highest(self, score: str) -> dict[str, Any]:
        """Returns the row of the first epoch with the highest ``score``."""
        return max(self._main_rows(), key=lambda row: row[score])

    def _main_rows(self) -> list[dict[str, Any]]:
        return [row for row in self.rows if row["stage"] == self.task.stages[-1].name]

    def result(self) -> dict[str, Any]:
        """Returns the result of the run after its last epoch."""
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
        """Returns the state in types that can be loaded without executing code."""
        on_gpu = self.setup.device.type == "cuda"
        optimizer = self.optimizer.state_dict()
        for group in optimizer["param_groups"]:
            group["lr"] = float(group["lr"])  # it may be a GPU tensor
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
            "best": self.best_weights,
            "random": torch.get_rng_state(),
            "random_cuda": torch.cuda.get_rng_state(self.setup.device) if on_gpu else None,
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Loads a state. Raises any exception if it belongs to another run or is damaged; this object must then be
        discarded."""
        if not isinstance(state, dict):
            raise ValueError("it is not a checkpoint")
        if missing := self.state_dict().keys() - state.keys():
            raise ValueError(f"it has no {', '.join(sorted(missing))}")
        if state["run"] != self.setup.spec.id:
            raise ValueError(f"it belongs to the run {state['run']}")
        self.stage_number = state["stage"]
        self.enter_stage()
        self.epoch, self.step, self.seconds = state["epoch"], state["step"], state["seconds"]
        self.rows, self.best_weights = state["rows"], state["best"]
        # if a plugin was edited while the run was interrupted, the result lists both versions
        new = [entry for entry in self.machine["plugins"] if entry not in state["plugins"]]
        self.machine = self.machine | {"plugins": [*state["plugins"], *new]}
        self._refuse_other_epochs()
        self.meter.load_state_dict(state["meter"])
        self.task.modules.load_state_dict(state["modules"])
        self.optimizer.load_state_dict(state["optimizer"])
        self._move_lr_to_device()
        for parameter, kept in self.optimizer.state.items():
            averages = [kept[name] for name in AVERAGES if torch.is_tensor(kept.get(name))]
            if any(value.shape != parameter.shape for value in averages):
                raise ValueError("its optimizer state belongs to other modules")
        self.scaler.load_state_dict(state["scaler"])
        torch.set_rng_state(state["random"])
        if state["random_cuda"] is not None:
            torch.cuda.set_rng_state(state["random_cuda"], self.setup.device)

    def _refuse_other_epochs(self) -> None:
        done = sum(stage.epochs for stage in self.task.stages[: self.stage_number]) + self.epoch
        in_range = 0 <= self.epoch <= self.stage.epochs and 0 <= self.step <= len(self.loader)
        if not in_range or len(self.rows) != done:
            raise ValueError(f"it has the rows of {len(self.rows)} epochs, but {done} are done")
        if self.epoch and self.in_main_stage:
            self.best()  # raises KeyError if the rows lack the score


# --- files of a run ---------------------------------------------------------------------------------------------------


def start_or_resume(setup: Setup, folder: RunFolder, log: Callable[[str], None]) -> RunState:
    """Returns the run resumed from its newest usable checkpoint, or a new run. Checkpoints that cannot be used are
    renamed and logged."""
    machine = run_provenance(setup)
    for path in folder.checkpoints():
        run = RunState(setup, build_task(setup), machine)
        try:
            run.load_state_dict(torch.load(path, map_location="cpu", weights_only=True))
            _refuse_without_best(run, folder)
        except (torch.OutOfMemoryError, MemoryError):
            raise  # not caused by the file
        except Exception as error:  # from damaged or foreign content
            folder.quarantine_checkpoint(path, error, log)
        else:
            return run
    return RunState(setup, build_task(setup), machine)


def _refuse_without_best(run: RunState, folder: RunFolder) -> None:
    """Raises ValueError if the best weights so far are missing, unless the run holds them itself."""
    if run.best_weights is None or (run.step == 0 and "best" in run.ends()):
        return
    if folder.find_best(run.best_weights) is None:
        raise ValueError("the weights of its best epoch are missing")


def restore_folder(folder: RunFolder, run: RunState) -> None:
    """Writes metrics and weights as they were at the checkpoint, and deletes failed.json."""
    if run.step == 0:
        _save_weights(folder, _weights(run, folder))
    if run.best_weights is not None and (kept := folder.find_best(run.best_weights)) == folder.previous_best:
        os.replace(kept, folder.weights("best"))
    folder.rewrite_metrics(run.rows)
    folder.failure.unlink(missing_ok=True)
    if run.task.description is not None:
        write_json(folder.network, run.task.description.model_dump(mode="json"))


def save_epoch(folder: RunFolder, run: RunState, row: dict[str, Any]) -> None:
    """Writes the checkpoint, then the weights, then the metrics.

    ``restore_folder`` restores from the checkpoint what a crash in between has prevented. On a CPU every epoch is
    checkpointed. On a GPU, where an epoch can take seconds, a checkpoint is written only with new best or last weights,
    with keep_epochs, or if the last one is SAVE_SECONDS old. Weights are only written together with a checkpoint, which
    has their sha256, because repeated epochs may give other weights on a GPU.
    """
    weights = _weights(run, folder)
    keep = run.setup.execution.keep_epochs
    if keep:
        folder.keep_epoch(len(run.rows), run.state_dict())
    old = time.perf_counter() - run.saved_at >= SAVE_SECONDS
    if weights or keep or old or run.setup.device.type != "cuda":
        folder.save_checkpoint(run.state_dict())
        run.saved_at = time.perf_counter()
    _save_weights(folder, weights)
    folder.append_metrics(row)


def _weights(run: RunState, folder: RunFolder) -> dict[str, bytes]:
    """Returns the weights files of the epoch that has just finished, if it is the best or the last, and records
    which is the best. After the last epoch, they include the moving average of the weights, if there is one."""
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
