"""What a person sees while runs train: a live display in a terminal, plain lines in a log."""

import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, TaskID, TextColumn, TimeElapsedColumn
from rich.progress import Progress as Bars

from sskd.runs.spec import RunSpec
from sskd.training.loop import OnStep, StepEvent


class Standing(NamedTuple):
    """How far a run is, as displays show it."""

    stage: str
    epoch: int  # the one under way, from 1
    epochs: int  # of the stage
    top1: float | None  # in percent, of the newest epoch that was measured
    images_per_second: float
    seconds_left: int | None  # of the stage


class Pace:
    """From the training loop's events to a Standing: the time left follows from the pace since the first event."""

    def __init__(self) -> None:
        self._stage = ""
        self._started = self._last = time.monotonic()  # of the stage, and the event before this one
        self._first: float | None = None  # epochs that were done when this began: the run may be resumed
        self._top1: float | None = None

    def __call__(self, event: StepEvent) -> Standing:
        if event.stage != self._stage:
            self._stage, self._started, self._first = event.stage, self._last, None
        self._last = time.monotonic()
        done = event.epoch - 1 + event.step / event.steps
        self._first = done - 1 / event.steps if self._first is None else min(self._first, done)
        if event.row:
            self._top1 = event.row.get("test_top1", event.row.get("test_head_top1"))
        rate = (done - self._first) / max(self._last - self._started, 1e-9)
        left = round((event.epochs - done) / rate) if rate > 0 else None
        images_per_second = round(event.images_per_second, 1)
        return Standing(event.stage, event.epoch, event.epochs, self._top1, images_per_second, left)


class Progress:
    """Shows a suite of ``total`` runs: the suite's bar, and each present run's epoch, accuracy, images/s, time left."""

    def __init__(self, total: int, every: float = 10.0) -> None:
        self._console = Console(stderr=False, soft_wrap=True)
        self._live = self._console.is_terminal
        self._every = every  # seconds between plain lines of one run
        self._total, self._done = total, 0
        self._started = time.monotonic()
        self._shown: dict[str, TaskID] = {}
        self._last_lines: dict[str, tuple[float, int]] = {}  # when a run had its last line, in which epoch
        self._bars = Bars(
            TextColumn("{task.description}"),
            BarColumn(bar_width=20),
            MofNCompleteColumn(),
            TextColumn("{task.fields[note]}"),
            TimeElapsedColumn(),
            console=self._console,
            disable=not self._live,
        )

    def __enter__(self) -> "Progress":
        self._bars.start()
        self._suite = self._bars.add_task("all runs", total=self._total, note="")
        return self

    def __exit__(self, *exception: Any) -> None:
        self._bars.stop()

    def say(self, line: str) -> None:
        """One line for a person, above the display."""
        self._console.print(line, markup=False, highlight=False)
        sys.stdout.flush()

    def finished(self, spec: RunSpec, result: dict[str, Any]) -> None:
        """Counts a run as done and says what it reached. ``result``: as in result.json."""
        self._done += 1
        left = self._left(self._done, self._total, time.monotonic() - self._started)
        self._bars.update(self._suite, completed=self._done, note=f"about {left} left")
        score = ", ".join(
            f"{name.removeprefix('test_')} {value:.2f}"
            for name, value in result["last"].items()
            if name.endswith("top1")
        )
        self.say(
            f"[{self._done}/{self._total}] {spec.id} finished in {duration(result['seconds'])}: "
            f"{score or 'no accuracy'} in the last epoch; about {left} left"
        )

    def show(self, run_id: str, standing: Standing) -> None:
        """How far a run is: in its bar, or as a line now and then."""
        if run_id not in self._shown:
            self._shown[run_id] = self._bars.add_task(run_id, total=standing.epochs, note="")
            self._last_lines[run_id] = time.monotonic(), standing.epoch
        parts = [] if standing.top1 is None else [f"top1 {standing.top1:.2f}"]
        left = "?" if standing.seconds_left is None else duration(standing.seconds_left)
        note = ", ".join([*parts, f"{standing.images_per_second:.0f} images/s, {left} left"])
        self._bars.update(self._shown[run_id], total=standing.epochs, completed=standing.epoch, note=note)
        (last, epoch), now = self._last_lines[run_id], time.monotonic()
        if not self._live and now - last >= self._every and standing.epoch != epoch:
            self._last_lines[run_id] = now, standing.epoch
            self.say(f"  {run_id} {standing.stage} epoch {standing.epoch}/{standing.epochs}: {note}")

    def hide(self, run_id: str) -> None:
        """Takes a run's bar away."""
        if run_id in self._shown:
            self._bars.remove_task(self._shown.pop(run_id))

    @contextmanager
    def run(self, spec: RunSpec) -> Iterator[OnStep]:
        """The display of one run in this process; yields the training loop's ``on_step``."""
        pace = Pace()
        try:
            yield lambda event: self.show(spec.id, pace(event))
        finally:
            self.hide(spec.id)

    @staticmethod
    def _left(done: float, total: float, seconds: float) -> str:
        return duration(seconds / done * (total - done)) if done > 0 else "?"


def duration(seconds: float) -> str:
    """3 s, 2 min 5 s, 4 h 10 min, 3 d 2 h."""
    seconds = round(seconds)
    for size, unit, small, small_unit in (
        (86400, "d", 3600, "h"),
        (3600, "h", 60, "min"),
        (60, "min", 1, "s"),
    ):
        if seconds >= size:
            return f"{seconds // size} {unit} {seconds % size // small} {small_unit}"
    return f"{seconds} s"


def plural(count: int, noun: str) -> str:
    """ "1 run", "2 runs"."""
    return f"{count} {noun}" if count == 1 else f"{count} {noun}s"
