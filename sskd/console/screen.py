"""The progress screen: a line of totals, and a row per run that is running, waiting or failed."""

from collections.abc import Sequence
from typing import NamedTuple

from rich.console import Group, RenderableType
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from sskd.formatting import duration, plural

ORDER = ("running", "failed", "waiting")  # of rows; rows that do not fit are counted
COLOURS = {"running": "green", "failed": "red", "waiting": "yellow"}


class ScreenRow(NamedTuple):
    """A run on the screen. top1: %. seconds_left: in its stage. note: why it waits or failed, or where it runs."""

    name: str
    state: str  # one of ORDER
    stage: str = ""
    epoch: int = 0
    epochs: int = 0
    top1: float | None = None
    images_per_second: float | None = None
    seconds_left: float | None = None
    cores: int = 0
    gpus: int = 0
    note: str = ""


def totals(rows: Sequence[ScreenRow], finished: int, total: int, left: str = "") -> str:
    """Returns a line such as "3/17 finished, 2 running on 4 cores, 812 images/s, 1 failed, 11 waiting, about 5 min
    left"."""
    running = [row for row in rows if row.state == "running"]
    parts = [f"{finished}/{total} finished"]
    if running:
        gpus, cores = sum(row.gpus for row in running), sum(row.cores for row in running if not row.gpus)
        parts.append(f"{len(running)} running{' on ' if gpus or cores else ''}{_places(cores, gpus)}")
        parts.append(f"{sum(row.images_per_second or 0 for row in running):.0f} images/s")
    for state in ("failed", "waiting"):
        count = sum(row.state == state for row in rows)
        parts += [f"{count} {state}"] if count else []
    return ", ".join([*parts, f"about {left} left"] if left else parts)


def screen(rows: Sequence[ScreenRow], finished: int, total: int, left: str, height: int) -> RenderableType:
    """Returns the screen for a terminal of ``height`` lines, with as many rows as fit."""
    head = Table.grid(padding=(0, 1))
    head.add_row(ProgressBar(total=max(total, 1), completed=finished, width=20), totals(rows, finished, total, left))
    table = Table("run", "state", "epoch", "top-1", "images/s", "left", "on", "", box=None, header_style="dim")
    ordered = sorted(rows, key=lambda row: ORDER.index(row.state))
    room = max(3, height - 6)
    for row in ordered[:room]:
        stage = f"{row.stage} " if row.stage not in ("", "main") else ""
        table.add_row(
            Text(row.name),
            Text(row.state, style=COLOURS[row.state]),
            f"{stage}{row.epoch}/{row.epochs}" if row.epoch else "",
            "" if row.top1 is None else f"{row.top1:.2f}",
            "" if row.images_per_second is None else f"{row.images_per_second:.0f}",
            "" if row.seconds_left is None else duration(row.seconds_left),
            _places(0 if row.gpus else row.cores, row.gpus),
            Text(row.note, overflow="ellipsis", no_wrap=True),
        )
    more = [row.state for row in ordered[room:]]
    rest = ", ".join(f"{more.count(state)} {state}" for state in ORDER if state in more)
    return Group(head, table, *([Text(f"and {rest}")] if rest else [])) if rows else head


def _places(cores: int, gpus: int) -> str:
    return " and ".join([plural(gpus, "GPU")] * (gpus > 0) + [plural(cores, "core")] * (cores > 0))
