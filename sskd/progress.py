"""What a person sees while runs train: a live display in a terminal, plain lines in a log."""

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeElapsedColumn
from rich.progress import Progress as Bars

from sskd.config import RunSpec
from sskd.training import Report


class Progress:
    """Shows a suite of ``total`` runs: the suite's bar, and the present run's epoch, accuracy, images/s, time left."""

    def __init__(self, total: int, every: float = 10.0) -> None:
        self._console = Console(stderr=False, soft_wrap=True)
        self._live = self._console.is_terminal
        self._every = every  # seconds between plain lines of one run
        self._total, self._done = total, 0
        self._started = time.monotonic()
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
        self._done += 1
        left = self._left(self._done, self._total, time.monotonic() - self._started)
        self._bars.update(self._suite, completed=self._done, note=f"about {left} left")
        score = ", ".join(f"{name[5:]} {value:.2f}" for name, value in result["last"].items() if name.endswith("top1"))
        self.say(
            f"[{self._done}/{self._total}] {spec.id} finished in {duration(result['seconds'])}: "
            f"{score or 'no accuracy'} in the last epoch; about {left} left"
        )

    @contextmanager
    def run(self, spec: RunSpec) -> Iterator[Callable[[Report], None]]:
        """The display of one run; yields what the training loop reports to."""
        task = self._bars.add_task(spec.id, total=None, note="")
        started = last_line = time.monotonic()
        first: float | None = None  # how much of the run was there when we saw it first: it may be resumed

        def show(report: Report) -> None:
            nonlocal last_line, first
            done = report.epoch - 1 + report.step / report.steps
            first = done - 1 / report.steps if first is None else min(first, done)
            now = time.monotonic()
            left = self._left(done - first, report.epochs - first, now - started)
            note = f"{report.images_per_second:.0f} images/s, {left} left"
            if report.row:
                score = [f"{k[5:]} {v:.2f}" for k, v in report.row.items() if k.endswith("top1")]
                note = ", ".join([*score, note])
            self._bars.update(task, total=report.epochs, completed=int(done), note=note)
            if not self._live and report.row and now - last_line >= self._every:
                last_line = now
                self.say(f"  {spec.id} {report.stage} epoch {report.epoch}/{report.epochs}: {note}")

        try:
            yield show
        finally:
            self._bars.remove_task(task)

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
