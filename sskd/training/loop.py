"""One loop for teachers, heads and students. It knows stages and named loss terms, and no method."""

import math
import time
from collections.abc import Callable, Mapping
from contextlib import nullcontext
from datetime import datetime, timezone
from pathlib import Path
from typing import Any, NamedTuple, NoReturn

import torch

from sskd.config.execution import Execution
from sskd.distributed import any_rank, average_gradients, barrier, this_replica
from sskd.errors import UserError
from sskd.optim import make_optimizer
from sskd.runs.plugins import noted
from sskd.runs.provenance import provenance
from sskd.runs.run_folder import RunFolder, read_json, write_json
from sskd.runs.spec import RunSpec
from sskd.runs.trained import describe_network
from sskd.seeding import stream_seed
from sskd.training.jobs import Stage, TrainingTask, build_task
from sskd.training.meter import Meter
from sskd.training.setup import Setup, prepare
from sskd.training.trackers import tracked

# what torch's SGD and AdamW keep of a parameter; a user's own optimiser may keep other shapes under other names
AVERAGES = ("momentum_buffer", "exp_avg", "exp_avg_sq")


class Interrupted(Exception):
    """The run was asked to stop; it saved its state and can be resumed."""


class StepEvent(NamedTuple):
    """What a progress display may show: sent after every step (row is None) and after every epoch."""

    spec: RunSpec
    stage: str
    epoch: int  # from 1
    epochs: int
    step: int  # from 1
    steps: int
    images_per_second: float
    row: dict[str, Any] | None


def train(
    spec: RunSpec,
    runs: Path,
    execution: Execution,
    report: Callable[[StepEvent], None] = lambda _: None,
    say: Callable[[str], None] = print,
    should_stop: Callable[[], bool] = lambda: False,
) -> dict[str, Any]:
    """Trains the run in ``runs/<id>`` from where it stands and returns its result (what result.json holds).

    ``report`` is told of every step and epoch, ``say`` of what a person should read. When ``should_stop`` answers
    True, the state is saved inside the epoch and Interrupted is raised. A finished run is not trained again. UserError
    for whatever the user can mend; RunHeld if another process trains the run.
    """
    # 1. the folder is this process's; of several processes of one run the first writes, and all read
    folder = RunFolder(runs, spec)
    first = this_replica().rank == 0
    if first and not folder.result.exists():
        folder.create()
    with folder.held() if first else nullcontext():
        if any_rank(folder.result.exists()):
            return dict(read_json(folder.result))

        # 2. data, device, modules and stages
        if execution.threads:
            torch.set_num_threads(execution.threads)
        setup = prepare(spec, runs, execution)
        if not spec.trains:
            return _measure(setup, folder) if first else {}

        # 3. on from the newest checkpoint that fits
        run = _start_or_resume(setup, folder, say)
        barrier()  # until all have read
        if first:
            folder.rewrite_metrics(run.rows)
            folder.failure.unlink(missing_ok=True)
            if spec.role != "head":
                write_json(folder.network, describe_network(spec, setup.data))

        # 4. epoch after epoch, stage after stage
        with tracked(spec, folder.path, len(run.rows), execution, say) if first else nullcontext() as note:
            while run.enter_unfinished_stage():
                run.train_epoch(report, should_stop)
                row = run.finish_epoch()
                if note is not None:
                    note(row, len(run.rows))
                report(run.report(row))

        # 5. the result, which marks the run as finished
        if not first:
            return {}
        result = run.result()
        folder.save_result(result)
        return result


def _start_or_resume(setup: Setup, folder: RunFolder, say: Callable[[str], None]) -> "_Run":
    """The run as its newest checkpoint left it, or at its beginning. One that does not fit is named and set aside."""
    for path in folder.checkpoints():
        run = _Run(setup, build_task(setup), folder)
        try:
            run.restore(torch.load(path, map_location="cpu", weights_only=True))
        except (torch.OutOfMemoryError, MemoryError):
            raise  # says nothing of the file
        except Exception as error:  # whatever comes of damaged or foreign content
            folder.set_checkpoint_aside(path, error, say)
        else:
            return run
    return _Run(setup, build_task(setup), folder)


def _provenance(setup: Setup) -> dict[str, Any]:
    """Machine, versions and code, the user's own files among it."""
    known = provenance(setup.device)
    return known | noted(setup.spec, known["dirty"])


def _measure(setup: Setup, folder: RunFolder) -> dict[str, Any]:
    """The result of a network that is given: of its epoch 0, which is the best and the last."""
    started, task = time.perf_counter(), build_task(setup)
    measured = task.evaluate()
    seconds = time.perf_counter() - started
    row = {"epoch": 0, **{f"test_{name}": value for name, value in measured.items()}}
    result = _result(setup, task, {"best": row, "last": row}, _provenance(setup)) | {
        "train_images": 0,
        "seconds": round(seconds, 1),
        "images_per_second": round(measured["images"] / seconds, 1),
    }
    folder.save_result(result)
    return result


def _result(
    setup: Setup, task: TrainingTask, rows: Mapping[str, dict[str, Any]], machine: dict[str, Any]
) -> dict[str, Any]:
    """A run's numbers and where they come from. ``rows``: its epochs by what they are ("best", "last"), never mixed:
    a key each."""

    def measured(row: dict[str, Any]) -> dict[str, Any]:
        return {name: value for name, value in row.items() if name.startswith(("test_", "held_out_", "epoch"))}

    return {
        "id": setup.spec.id,
        **{which: measured(row) for which, row in rows.items()},
        **task.final(),
        "parameters": sum(p.numel() for p in task.output.parameters()),
        "train_images": len(setup.split.indices),
        "precision": setup.precision,
        "machine": machine,
        "finished": datetime.now(timezone.utc).isoformat(timespec="seconds"),
    }


class _Run:
    """A run under way: where it stands, its optimiser, and the metrics so far."""

    def __init__(self, setup: Setup, task: TrainingTask, folder: RunFolder) -> None:
        self.setup, self.task, self.folder = setup, task, folder
        self.first = setup.replica.rank == 0  # evaluates and writes, for all processes
        self.stage_number = self.epoch = self.step = 0  # what comes next, all from 0
        self.rows: list[dict[str, Any]] = []
        self.meter = Meter()
        self.machine = _provenance(setup)  # now: the code on disk may be another when the run ends
        self.seconds = 0.0  # of training in the epoch under way, over all its interruptions
        self.enter_stage()

    @property
    def stage(self) -> Stage:
        return self.task.stages[self.stage_number]

    def enter_stage(self) -> None:
        self.optimizer = make_optimizer(self.stage.parameters, self.setup.spec.recipe)
        self.scaler = torch.amp.GradScaler(self.setup.device.type, enabled=self.setup.precision == "fp16")
        self.loader = self.setup.loader(self.stage.views, self.stage.name)

    def enter_unfinished_stage(self) -> bool:
        """Moves on to the next stage if this one is done; False when all are."""
        while self.epoch >= self.stage.epochs:
            if self.stage_number + 1 == len(self.task.stages):
                return False
            self.stage_number, self.epoch = self.stage_number + 1, 0
            self.enter_stage()
        return True

    # --- one epoch ----------------------------------------------------------------------------------------------

    def train_epoch(self, report: Callable[[StepEvent], None], should_stop: Callable[[], bool]) -> None:
        """The steps of the epoch that are still to be done. No step waits for the device."""
        # 1. the epoch's random numbers; only what the stage trains is in train mode
        stage = self.stage
        if self.step == 0:
            torch.manual_seed(stream_seed(self.setup.spec.random_seed, "torch", stage.name, self.epoch))
        self.task.modules.eval()
        for module in stage.trained:
            module.train()
        stage.begin_epoch(self.epoch)
        started = time.perf_counter()
        for batch in self.loader.epoch(self.epoch, start=self.step):
            # 2. the loss of the whole batch, forward and backward
            self.optimizer.zero_grad(set_to_none=True)
            total, terms = stage.loss(batch)
            self.scaler.scale(total).backward()
            average_gradients(stage.parameters)
            # 3. the update, at the step's learning rate
            rate = stage.learning_rate_at(self.epoch + self.step / len(self.loader))
            for group in self.optimizer.param_groups:
                group["lr"] = rate
            self.scaler.step(self.optimizer)
            self.scaler.update()
            stage.after_step()
            # 4. what is noted of the step
            self.meter.add(total, terms, len(batch.labels))
            self.step += 1
            started = self.passed(started)
            report(self.report(None))
            # 5. if any process was asked to stop, all save here and end
            if any_rank(should_stop()):
                self.save_and_end()
        if self.setup.device.type == "cuda":
            torch.cuda.synchronize()
        self.passed(started)

    def save_and_end(self) -> NoReturn:
        """Saves inside the epoch and raises Interrupted."""
        self.meter.average()
        if self.first:
            self.folder.save_checkpoint(self.state())
        barrier()
        where = f"epoch {self.epoch + 1} of {self.stage.epochs}"
        raise Interrupted(f"{self.setup.spec.id} was asked to stop, and is saved inside {where}")

    def passed(self, since: float) -> float:
        """Counts the time since ``since``; returns now."""
        now = time.perf_counter()
        self.seconds += now - since
        return now

    def finish_epoch(self) -> dict[str, Any]:
        """Measures, notes and saves what the epoch gave."""
        images = self.meter.images * self.setup.replica.world_size
        self.meter.average()
        means = self.meter.means()
        self._refuse_divergence(means)
        main = self.stage_number == len(self.task.stages) - 1
        last = main and self.epoch + 1 == self.stage.epochs
        started = time.perf_counter()
        measured = self.task.evaluate() if self.first and (last or (main and self.task.score)) else {}
        test = {f"test_{name}": value for name, value in measured.items()}
        if main and self.first:
            test |= {f"held_out_{name}": value for name, value in self.task.held_out().items()}
        row = {
            "stage": self.stage.name,
            "epoch": self.epoch + 1,
            "rate": self.stage.learning_rate_at(self.epoch),
            **means,
            **test,
            "seconds": round(self.seconds, 3),
            "evaluation_seconds": round(time.perf_counter() - started, 3),
            "images_per_second": round(images / self.seconds, 1),
        }
        if self.loader.skipped:
            row["images_skipped"] = len(self.loader.skipped)  # corrupt files, so far
        self.rows.append(row)
        self.epoch, self.step, self.meter, self.seconds = self.epoch + 1, 0, Meter(), 0.0
        if self.first:
            self._save(main, last, row)
        barrier()  # a process that is ahead must not stop the others before this epoch is saved
        return row

    def _save(self, main: bool, last: bool, row: dict[str, Any]) -> None:
        if (last or (main and self.task.score)) and self.best() is row:
            self.folder.save_weights("best", self.task.output.state_dict(), self.epoch)
        if last:
            self.folder.save_weights("last", self.task.output.state_dict(), self.epoch)
        self.folder.save_checkpoint(self.state())
        self.folder.append_metrics(row)

    def best(self) -> dict[str, Any]:
        """The first of the epochs with the highest score; the last epoch where there is no score."""
        return self.highest(f"test_{self.task.score}") if self.task.score else self.main_rows()[-1]

    def main_rows(self) -> list[dict[str, Any]]:
        return [row for row in self.rows if row["stage"] == self.task.stages[-1].name]

    def highest(self, score: str) -> dict[str, Any]:
        """The first of the epochs whose ``score`` none exceeds."""
        return max(self.main_rows(), key=lambda row: row[score])

    def _refuse_divergence(self, means: dict[str, float]) -> None:
        bad = [name for name, value in means.items() if not math.isfinite(value)]
        if bad:
            raise UserError(
                f"{self.setup.spec.id} diverged in epoch {self.epoch + 1} of stage '{self.stage.name}': "
                f"{', '.join(bad)} not finite; a lower recipe.learning_rate may help"
            )

    # --- saving and resuming ------------------------------------------------------------------------------------

    def state(self) -> dict[str, Any]:
        """All that decides how the run goes on, in types that load without executing code."""
        on_gpu = self.setup.device.type == "cuda"
        return {
            "run": self.setup.spec.id,
            "stage": self.stage_number,
            "epoch": self.epoch,
            "step": self.step,
            "seconds": self.seconds,
            "rows": self.rows,
            "plugins": self.machine["plugins"],
            "meter": self.meter.state(),
            "modules": self.task.modules.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "scaler": self.scaler.state_dict(),
            "random": torch.get_rng_state(),
            "random_cuda": torch.cuda.get_rng_state(self.setup.device) if on_gpu else None,
        }

    def restore(self, state: dict[str, Any]) -> None:
        """Raises whatever there is to raise where the state is not one of this run's; then this _Run is of no use."""
        if not isinstance(state, dict):
            raise ValueError("it is no checkpoint")
        found = state.get("run", self.setup.spec.id)  # earlier versions did not note it
        if found != self.setup.spec.id:
            raise ValueError(f"it is of the run {found}")
        missing = self.state().keys() - {"run"} - state.keys()
        if missing:
            raise ValueError(f"it has no {', '.join(sorted(missing))}")
        self.stage_number = state["stage"]
        self.enter_stage()
        self.epoch, self.step, self.seconds = state["epoch"], state["step"], state["seconds"]
        self.rows = state["rows"]
        # of a file that was edited while the run was interrupted, the result names both: it is of neither alone
        earlier = state.get("plugins", [])
        now = [entry for entry in self.machine["plugins"] if entry not in earlier]
        self.machine = self.machine | {"plugins": [*earlier, *now]}
        done = sum(stage.epochs for stage in self.task.stages[: self.stage_number]) + self.epoch
        in_range = 0 <= self.epoch <= self.stage.epochs and 0 <= self.step <= len(self.loader)
        if not in_range or len(self.rows) != done:
            raise ValueError(f"{len(self.rows)} epochs are noted in it, and it goes on after {done}")
        if self.epoch and self.stage_number + 1 == len(self.task.stages):
            self.best()
        self.meter = Meter(state["meter"])
        self.task.modules.load_state_dict(state["modules"])
        self.optimizer.load_state_dict(state["optimizer"])
        for parameter, kept in self.optimizer.state.items():
            averages = [kept[name] for name in AVERAGES if torch.is_tensor(kept.get(name))]
            if any(value.shape != parameter.shape for value in averages):
                raise ValueError("its optimizer is of other modules")
        self.scaler.load_state_dict(state["scaler"])
        torch.set_rng_state(state["random"])
        if state["random_cuda"] is not None:
            torch.cuda.set_rng_state(state["random_cuda"], self.setup.device)

    # --- what others see ----------------------------------------------------------------------------------------

    def report(self, row: dict[str, Any] | None) -> StepEvent:
        done = row["epoch"] if row else self.epoch + 1
        images = self.meter.images * self.setup.replica.world_size
        rate = row["images_per_second"] if row else images / max(self.seconds, 1e-9)
        steps = len(self.loader)
        return StepEvent(
            self.setup.spec, self.stage.name, done, self.stage.epochs, self.step or steps, steps, rate, row
        )

    def result(self) -> dict[str, Any]:
        last = self.rows[-1]
        rows = {"best": self.best(), "last": last}
        if "held_out_top1" in last:
            rows["chosen"] = self.highest("held_out_top1")
        return _result(self.setup, self.task, rows, self.machine) | {
            "seconds": round(sum(row["seconds"] + row["evaluation_seconds"] for row in self.rows), 1),
            "images_per_second": last["images_per_second"],
        }
