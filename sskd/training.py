"""One loop for teachers, heads and students. It knows stages and named loss terms, and no method."""

import math
import time
from collections.abc import Callable
from contextlib import nullcontext
from datetime import datetime, timezone
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch.utils.tensorboard import SummaryWriter

from sskd.config import Execution, RunSpec
from sskd.distributed import any_of_all, average_gradients, this_share, wait
from sskd.errors import UserError
from sskd.folder import RunFolder
from sskd.jobs import Job, Stage, build_job
from sskd.machine import provenance
from sskd.meter import Meter
from sskd.seeding import stream_seed
from sskd.setup import Setup, prepare


class Interrupted(Exception):
    """The run was asked to stop; it saved its state and can be resumed."""


class Report(NamedTuple):
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
    report: Callable[[Report], None] = lambda _: None,
    say: Callable[[str], None] = print,
    should_stop: Callable[[], bool] = lambda: False,
) -> dict[str, Any]:
    """Trains the run in ``runs/<id>`` from where it stands and returns its result (what result.json holds).

    ``report`` is told of every step and epoch, ``say`` of what a person should read. When ``should_stop`` answers
    True, the state is saved inside the epoch and Interrupted is raised. UserError for whatever the user can mend.
    """
    folder = RunFolder(runs, spec)
    first = this_share().rank == 0  # of several processes one writes; all read
    if first:
        folder.create()
    if execution.threads:
        torch.set_num_threads(execution.threads)
    setup = prepare(spec, runs, execution)
    if not spec.trains:
        return _measure(setup, folder) if first else {}
    run = _Run(setup, build_job(setup), folder)
    checkpoint = folder.load_checkpoint(say)
    if checkpoint is not None:
        run.restore(checkpoint)
    wait()  # until all have read
    if first:
        folder.rewrite_metrics(run.rows)
        folder.failure.unlink(missing_ok=True)
    with SummaryWriter(str(folder.path), purge_step=len(run.rows)) if first else nullcontext() as board:
        while run.enter_unfinished_stage():
            run.train_epoch(report, should_stop)
            row = run.finish_epoch()
            if board is not None:
                _to_board(board, row, len(run.rows))
            report(run.report(row))
    if not first:
        return {}
    result = run.result()
    folder.save_result(result)
    return result


def _measure(setup: Setup, folder: RunFolder) -> dict[str, Any]:
    """The result of a network that is given: of its epoch 0, which is the best and the last."""
    started, job = time.perf_counter(), build_job(setup)
    measured = job.evaluate()
    seconds = time.perf_counter() - started
    row = {"epoch": 0, **{f"test_{name}": value for name, value in measured.items()}}
    result = _result(setup, job, row, row, provenance(setup.device)) | {
        "train_images": 0,
        "seconds": round(seconds, 1),
        "images_per_second": round(measured["images"] / seconds, 1),
    }
    folder.save_result(result)
    return result


def _result(
    setup: Setup, job: Job, best: dict[str, Any], last: dict[str, Any], machine: dict[str, Any]
) -> dict[str, Any]:
    """A run's numbers and where they come from. best and last epoch are never mixed: two keys each."""

    def tests(row: dict[str, Any]) -> dict[str, Any]:
        return {name: value for name, value in row.items() if name.startswith("test_") or name == "epoch"}

    return {
        "id": setup.spec.id,
        "best": tests(best),
        "last": tests(last),
        **job.final(),
        "parameters": sum(p.numel() for p in job.output.parameters()),
        "train_images": len(setup.split.indices),
        "precision": setup.precision,
        "machine": machine,
        "finished": datetime.now(timezone.utc).isoformat(timespec="seconds"),
    }


class _Run:
    """A run under way: where it stands, its optimiser, and the metrics so far."""

    def __init__(self, setup: Setup, job: Job, folder: RunFolder) -> None:
        self.setup, self.job, self.folder = setup, job, folder
        self.first = setup.share.rank == 0  # evaluates and writes, for all processes
        self.stage_number = self.epoch = self.step = 0  # what comes next, all from 0
        self.rows: list[dict[str, Any]] = []
        self.meter = Meter()
        self.machine = provenance(setup.device)  # now: the code on disk may be another when the run ends
        self.seconds = 0.0  # of training in the epoch under way, over all its interruptions
        self.enter_stage()

    @property
    def stage(self) -> Stage:
        return self.job.stages[self.stage_number]

    def enter_stage(self) -> None:
        recipe = self.setup.spec.recipe
        self.optimizer = torch.optim.SGD(
            self.stage.parameters,
            lr=self.stage.learning_rate_at(0),
            momentum=recipe.momentum,
            weight_decay=recipe.weight_decay,
            fused=True,  # one pass over each parameter
        )
        self.scaler = torch.amp.GradScaler(self.setup.device.type, enabled=self.setup.precision == "fp16")
        self.loader = self.setup.loader(self.stage.views, self.stage.name)

    def enter_unfinished_stage(self) -> bool:
        """Moves on to the next stage if this one is done; False when all are."""
        while self.epoch >= self.stage.epochs:
            if self.stage_number + 1 == len(self.job.stages):
                return False
            self.stage_number, self.epoch = self.stage_number + 1, 0
            self.enter_stage()
        return True

    # --- one epoch ----------------------------------------------------------------------------------------------

    def train_epoch(self, report: Callable[[Report], None], should_stop: Callable[[], bool]) -> None:
        """The steps of the epoch that are still to be done. No step waits for the device."""
        stage = self.stage
        for group in self.optimizer.param_groups:
            group["lr"] = stage.learning_rate_at(self.epoch)
        if self.step == 0:
            torch.manual_seed(stream_seed(self.setup.spec.seed, "torch", stage.name, self.epoch))
        self.job.modules.eval()
        for module in stage.trained:
            module.train()
        stage.begin_epoch(self.epoch)
        started = time.perf_counter()
        for batch in self.loader.epoch(self.epoch, start=self.step):
            self.optimizer.zero_grad(set_to_none=True)
            total, terms = stage.loss(batch)
            self.scaler.scale(total).backward()
            average_gradients(stage.parameters)
            self.scaler.step(self.optimizer)
            self.scaler.update()
            stage.after_step()
            self.meter.add(total, terms, len(batch.labels))
            self.step += 1
            started = self.passed(started)
            report(self.report(None))
            if any_of_all(should_stop()):
                self.meter.average()
                if self.first:
                    self.folder.save_checkpoint(self.state())
                wait()
                raise Interrupted(f"{self.setup.spec.id} was asked to stop; it goes on from epoch {self.epoch + 1}")
        if self.setup.device.type == "cuda":
            torch.cuda.synchronize()
        self.passed(started)

    def passed(self, since: float) -> float:
        """Counts the time since ``since``; returns now."""
        now = time.perf_counter()
        self.seconds += now - since
        return now

    def finish_epoch(self) -> dict[str, Any]:
        """Measures, notes and saves what the epoch gave."""
        images = self.meter.images * self.setup.share.size
        self.meter.average()
        means = self.meter.means()
        self._refuse_divergence(means)
        main = self.stage_number == len(self.job.stages) - 1
        started = time.perf_counter()
        measured = self.job.evaluate() if main and self.first else {}
        test = {f"test_{name}": value for name, value in measured.items()}
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
            self._save(main, row)
        wait()  # a process that is ahead must not stop the others before this epoch is saved
        return row

    def _save(self, main: bool, row: dict[str, Any]) -> None:
        if main and self.best() is row:
            self.folder.save_weights("best", self.job.output.state_dict(), self.epoch)
        if main and self.epoch == self.stage.epochs:
            self.folder.save_weights("last", self.job.output.state_dict(), self.epoch)
        self.folder.save_checkpoint(self.state())
        self.folder.append_metrics(row)

    def best(self) -> dict[str, Any]:
        """The first of the epochs with the highest score; the last epoch where there is no score."""
        main = [row for row in self.rows if row["stage"] == self.job.stages[-1].name]
        return max(main, key=lambda row: row[f"test_{self.job.score}"]) if self.job.score else main[-1]

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
            "stage": self.stage_number,
            "epoch": self.epoch,
            "step": self.step,
            "seconds": self.seconds,
            "rows": self.rows,
            "meter": self.meter.state(),
            "modules": self.job.modules.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "scaler": self.scaler.state_dict(),
            "random": torch.get_rng_state(),
            "random_cuda": torch.cuda.get_rng_state(self.setup.device) if on_gpu else None,
        }

    def restore(self, state: dict[str, Any]) -> None:
        self.stage_number = state["stage"]
        self.enter_stage()
        self.epoch, self.step, self.seconds = state["epoch"], state["step"], state["seconds"]
        self.rows = state["rows"]
        self.meter = Meter(state["meter"])
        self.job.modules.load_state_dict(state["modules"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.scaler.load_state_dict(state["scaler"])
        torch.set_rng_state(state["random"])
        if state["random_cuda"] is not None:
            torch.cuda.set_rng_state(state["random_cuda"], self.setup.device)

    # --- what others see ----------------------------------------------------------------------------------------

    def report(self, row: dict[str, Any] | None) -> Report:
        done = row["epoch"] if row else self.epoch + 1
        images = self.meter.images * self.setup.share.size
        rate = row["images_per_second"] if row else images / max(self.seconds, 1e-9)
        steps = len(self.loader)
        return Report(self.setup.spec, self.stage.name, done, self.stage.epochs, self.step or steps, steps, rate, row)

    def result(self) -> dict[str, Any]:
        last = self.rows[-1]
        return _result(self.setup, self.job, self.best(), last, self.machine) | {
            "seconds": round(sum(row["seconds"] + row["evaluation_seconds"] for row in self.rows), 1),
            "images_per_second": last["images_per_second"],
        }


def _to_board(board: SummaryWriter, row: dict[str, Any], step: int) -> None:
    for name, value in row.items():
        if isinstance(value, int | float) and name != "epoch":
            board.add_scalar(name, value, step)
