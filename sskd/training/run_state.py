"""Where a run stands: the epoch and step that come next, what the stage trains with, and the metrics so far."""

import math
import time
from typing import Any

import torch

from sskd.optim import make_optimizer
from sskd.runtime.distributed import averaging_gradients
from sskd.training.graphs import GraphedStep
from sskd.training.measured_with import measured_with
from sskd.training.meter import Meter
from sskd.training.setup import Setup
from sskd.training.stage import Loss, Stage, TrainingTask

# what torch's SGD and AdamW keep of a parameter; a user's own optimiser may keep other shapes under other names
AVERAGES = ("momentum_buffer", "exp_avg", "exp_avg_sq")


class RunState:
    """A run under way. ``state_dict`` has all that decides how it goes on; the loop alone moves it on."""

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
        """The one under way."""
        return self.task.stages[self.stage_number]

    @property
    def in_main_stage(self) -> bool:
        """Whether the stage is the last one, whose epochs are measured."""
        return self.stage_number + 1 == len(self.task.stages)

    def enter_stage(self) -> None:
        """What a stage begins with: an optimiser of its own, over the parameters that it trains."""
        self.optimizer = make_optimizer(self.stage.parameters, self.setup.spec.recipe)
        self.scaler = self._new_scaler()
        self.loader = self.setup.loader(self.stage.views, self.stage.name)
        self.meter = Meter(self.setup.device)
        self.graph: GraphedStep | None = None  # of the stage's step, where it runs as one
        self._loss: Loss | None = None
        self._rates_to_device()

    @property
    def loss(self) -> Loss:
        """The stage's loss. Several processes must ask for it at the same time: they average its gradients."""
        if self._loss is None:
            self._loss = averaging_gradients(self.stage.loss, self.stage.parameters)
        return self._loss

    def _new_scaler(self) -> torch.amp.GradScaler:
        return torch.amp.GradScaler(self.setup.device.type, enabled=self.setup.precision == "fp16")

    def renew_scaler(self) -> None:
        """The scaler as it was before a step that was not done."""
        state, self.scaler = self.scaler.state_dict(), self._new_scaler()
        self.scaler.load_state_dict(state)

    def _rates_to_device(self) -> None:
        """On a GPU, PyTorch's fused optimisers read the learning rate there, where a graph of the step finds it as it
        is. Of others it stays a number, and a graph is of one."""
        self._rate = math.nan
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
        before, self._rate = self._rate, self.stage.learning_rate_at(self.epoch + self.step / len(self.loader))
        for group in self.optimizer.param_groups if before != self._rate else ():
            if torch.is_tensor(group["lr"]):
                group["lr"].fill_(self._rate)
            else:
                group["lr"] = self._rate

    def start_clock(self) -> None:
        """What passed before this does not count as training."""
        self._clock = time.perf_counter()

    def count_time(self) -> None:
        """Counts what has passed since the last call as training."""
        now = time.perf_counter()
        self.seconds, self._clock = self.seconds + now - self._clock, now

    def note_saved(self) -> None:
        """A checkpoint was written now."""
        self._saved = time.monotonic()

    def seconds_unsaved(self) -> float:
        """Since the last checkpoint, or since the run was started."""
        return time.monotonic() - self._saved

    def count_step(self, images: int) -> None:
        """One step of that many images is done."""
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
        """Whose weights those of the epoch that was just done are: "best", "last", both or neither."""
        last = self.in_main_stage and self.epoch == self.stage.epochs
        scored = self.in_main_stage and self.epoch > 0 and self.task.score
        best = (last or scored) and self.best() is self.rows[-1]
        return ["best"] * bool(best) + ["last"] * last

    def best(self) -> dict[str, Any]:
        """The first of the epochs with the highest score; the last epoch where there is no score."""
        return self.highest(f"test_{self.task.score}") if self.task.score else self._main_rows()[-1]

    def highest(self, score: str) -> dict[str, Any]:
        """The first of the epochs whose ``score`` none exceeds."""
        return max(self._main_rows(), key=lambda row: row[score])

    def _main_rows(self) -> list[dict[str, Any]]:
        return [row for row in self.rows if row["stage"] == self.task.stages[-1].name]

    # --- saving and resuming ------------------------------------------------------------------------------------

    def state_dict(self) -> dict[str, Any]:
        """All that decides how the run goes on, in types that load without executing code."""
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
        """What a checkpoint holds: the state, and which file has the weights of the epoch that is best so far."""
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
        self._rates_to_device()
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
