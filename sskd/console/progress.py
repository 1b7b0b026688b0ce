"""Progress display during training: live in a terminal, plain lines in a log file."""

import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple

from rich.console import Console, RenderableType
from rich.live import Live

from sskd.console.screen import ScreenRow, screen
from sskd.formatting import duration
from sskd.runs.records import shown_top1
from sskd.runs.spec import RunSpec
from sskd.training.run import OnStep, StepEvent

REFRESHES = 2.0  # per second


class Standing(NamedTuple):
    """Progress of a run, for displays."""

    stage: str
    epoch: int  # the current one, from 1
    epochs: int  # in the stage
    top1: float | None  # %, of the latest evaluated epoch
    images_per_second: float
    seconds_left: int | None  # in the stage
    cores: int = 0
    gpus: int = 0


class Pace:
    """Converts training events to a Standing. The remaining time follows from the speed since the first event."""

    def __init__(self) -> None:
        self._stage = ""
        self._started = self._last = time.monotonic()  # of the stage, and of the previous event
        self._first: float | None = None  # epochs done at the start, if the run was resumed
        self._top1: float | None = None

    def __call__(self, event: StepEvent) -> Standing:
        if event.stage != self._stage:
            self._stage, self._started, self._first = event.stage, self._last, None
        self._last = time.monotonic()
        done = event.epoch - 1 + event.step / event.steps
        self._first = done - 1 / event.steps if self._first is None else min(self._first, done)
        if event.row:
            self._top1 = shown_top1(event.row)
        epochs_per_second = (done - self._first) / max(self._last - self._started, 1e-9)
        left = round((event.epochs - done) / epochs_per_second) if epochs_per_second > 0 else None
        images_per_second = round(event.images_per_second, 1)
        return Standing(event.stage, event.epoch, event.epochs, self._top1, images_per_second, left)


class Progress:
    """Shows the progress of ``total`` runs: a table in a terminal, or occasional lines in a log file."""

    def __init__(self, total: int, every: float = 10.0) -> None:
        self._console = Console(stderr=False, soft_wrap=True)
        self._live = self._console.is_terminal
        self._every = every  # seconds between lines of one run
        self._total, self._done = total, 0
        self._started = time.monotonic()
        self._rows: dict[str, ScreenRow] = {}  # by run id
        self._last_lines: dict[str, tuple[float, int]] = {}  # run id: time and epoch of its last line
        self._screen = Live(console=self._console, get_renderable=self._render, refresh_per_second=REFRESHES)

    def __enter__(self) -> "Progress":
        if self._live:
            self._screen.start()
        return self

    def __exit__(self, *exception: Any) -> None:
        self._rows = {name: row for name, row in self._rows.items() if row.state != "waiting"}
        if self._live:
            self._screen.stop()

    def log(self, line: str) -> None:
        """Prints a line above the display."""
        self._console.print(line, markup=False, highlight=False)
        sys.stdout.flush()

    def finished(self, spec: RunSpec, result: dict[str, Any]) -> None:
        """Counts a run as finished and prints its accuracy. ``result``: content of result.json."""
        self._done += 1
        self.hide(spec.id)
        top1 = shown_top1(result["last"])
        accuracy = "no accuracy" if top1 is None else f"top-1 {top1:.2f} %"
        self.log(
            f"[{self._done}/{self._total}] {spec.id} finished in {duration(result['seconds'])}: "
            f"{accuracy} in the last epoch; about {self._left()} left"
        )

    def failed(self, run_id: str, message: str) -> None:
        """Prints that a run has failed, and shows it as failed."""
        self._rows[run_id] = ScreenRow(run_id, "failed", note=message)
        self.log(f"{run_id} failed: {message}")

    def wait(self, run_id: str, what_for: str) -> None:
        """Shows a run as waiting."""
        self._rows[run_id] = ScreenRow(run_id, "waiting", note=what_for)

    def show(self, run_id: str, standing: Standing) -> None:
        """Shows the progress of a run: in its row, or as an occasional line."""
        if run_id not in self._rows or self._rows[run_id].state != "running":
            self._last_lines[run_id] = time.monotonic(), standing.epoch
        self._rows[run_id] = ScreenRow(run_id, "running", *standing)
        (last, epoch), now = self._last_lines[run_id], time.monotonic()
        if not self._live and now - last >= self._every and standing.epoch != epoch:
            self._last_lines[run_id] = now, standing.epoch
            parts = [] if standing.top1 is None else [f"top1 {standing.top1:.2f}"]
            left = "?" if standing.seconds_left is None else duration(standing.seconds_left)
            note = ", ".join([*parts, f"{standing.images_per_second:.0f} images/s, {left} left"])
            self.log(f"  {run_id} {standing.stage} epoch {standing.epoch}/{standing.epochs}: {note}")

    def hide(self, run_id: str) -> None:
        """Removes the row of a run."""
        self._rows.pop(run_id, None)

    def _render(self) -> RenderableType:
        """Returns the screen. It works on a copy, because the display's thread calls it while others change the
        rows."""
        left = self._left() if 0 < self._done < self._total else ""
        return screen(list(self._rows.copy().values()), self._done, self._total, left, self._console.height)

    @contextmanager
    def run(self, spec: RunSpec, cores: int = 0, gpus: int = 0) -> Iterator[OnStep]:
        """Shows one run that is trained in this process; yields the function to call after every step."""
        pace = Pace()
        try:
            yield lambda event: self.show(spec.id, pace(event)._replace(cores=cores, gpus=gpus))
        finally:
            self.hide(spec.id)

    def _left(self) -> str:
        """Returns the estimated remaining time of all runs; at least one must be finished."""
        return duration((time.monotonic() - self._started) / self._done * (self._total - self._done))
