"""How a suite gets on, from run folders, claims and Slurm's queue alone: asked from any process, at any time."""

import json
import os
import time
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.table import Table
from rich.text import Text

from benchmarks.dispatch.run_lock import LockHolder, written_at
from benchmarks.dispatch.slurm_queue import HolderMonitor
from benchmarks.dispatch.work import Work, waits_for_what
from benchmarks.tables.cell import Cell
from benchmarks.tables.spec_builder import run_label
from sskd.console.screen import ORDER, ScreenRow, screen, totals
from sskd.errors import UserError
from sskd.formatting import duration
from sskd.runs.files import lock_holder
from sskd.runs.result_file import read_result
from sskd.runs.spec import RunSpec

STATES = ("finished", "running", "waiting", "failed", "to do")
REFRESH_SECONDS = 2.0
SILENT_SECONDS = 120.0  # without a sign, after which a run's pace is not shown: it writes every two while it trains
NUMBER = (int, float)
PROGRESS: dict[str, Any] = {"stage": str, "epoch": int, "epochs": int, "top1": NUMBER, "images_per_second": NUMBER} | {
    "seconds_left": NUMBER,
    "cores": int,
    "gpus": int,
}  # of progress.json, what the status shows


@dataclass
class RunRow:
    """A run as the status shows it. Times in seconds; top1 in percent, of the newest epoch."""

    id: str
    state: str  # one of STATES
    why: str = ""  # it waits or failed
    stage: str = ""
    epoch: int = 0
    epochs: int = 0
    top1: float | None = None
    images_per_second: float | None = None
    seconds_left: float | None = None
    cores: int = 0
    gpus: int = 0
    job: str = ""
    log: str = ""
    label: str = ""  # the method as tables name it: ids of crd and crd+kd have the same readable part
    last_sign: float | None = None  # seconds since it last wrote anything; of a run that has begun and is not finished


@dataclass
class State:
    """All runs, and how many of each benchmark's are in which state."""

    runs: list[RunRow]
    benchmarks: dict[str, dict[str, int]]
    slurm: str = ""  # its words where it does not answer
    launchers: tuple[str, ...] = ()  # processes that go on with what nobody has started yet
    others: tuple[RunRow, ...] = ()  # runs of other requests that are running or wait in the same folder

    @property
    def all_finished(self) -> bool:
        return all(row.state == "finished" for row in self.runs)

    @property
    def at_work(self) -> bool:
        """Whether anything runs or waits, or somebody will start more."""
        return bool(self.launchers) or any(row.state in ("running", "waiting") for row in self.runs)


def read_state(work: Work, cells: Mapping[str, Iterable[Cell]]) -> State:
    liveness = HolderMonitor(work.runs)
    rows: dict[str, RunRow] = {}
    now, (launchers, planned) = liveness.now() or time.time(), work.launched(liveness)
    jobs = [liveness.queued(launcher) for launcher in launchers if launcher.batch]
    queued = [job for job in jobs if job and job.state != "RUNNING"]
    for spec in work.plan.runs:  # what a run needs comes before it
        try:
            rows[spec.id] = _row(work, spec, liveness, rows, now)
        except UserError as error:  # a damaged file is one run's trouble
            rows[spec.id] = RunRow(spec.id, "failed", str(error))
        if spec.id in planned and rows[spec.id].state == "to do":
            needed = [other.id for other in spec.needs if rows[other.id].state != "finished"]
            rows[spec.id].state, rows[spec.id].why = "waiting", waits_for_what(needed)
            if queued and len(queued) == len(launchers):  # whole nodes that have not begun
                rows[spec.id].why, rows[spec.id].job = f"{queued[0].state.lower()}: {queued[0].reason}", queued[0].job
    counts = {}
    for name, group in cells.items():
        ids = {run_id for cell in group for run_id in _with_needs(cell.spec)}
        counts[name] = {state: sum(rows[run_id].state == state for run_id in ids) for state in STATES}
    others = tuple(_others(work, liveness, planned, now))
    return State(list(rows.values()), counts, liveness.silent, tuple(map(str, launchers)), others)


def _others(work: Work, liveness: HolderMonitor, planned: Iterable[str], now: float) -> Iterable[RunRow]:
    """What is at work in the folder beside the plan's runs: with a claim, with a lock alone (python -m sskd train), or
    planned by a process that executes another plan."""
    held = work.locks.all()
    locked = [lock.parent.name for lock in work.runs.glob("*/train.lock")]
    for run_id in sorted({*held, *locked, *planned} - {spec.id for spec in work.plan.runs}):
        row = RunRow(run_id, "to do")
        if os.path.exists(work.runs / run_id / "result.json"):
            continue
        if _at_work(row, work.runs / run_id, held.get(run_id), liveness, now):
            yield row
        elif run_id in planned:
            row.state, row.why = "waiting", waits_for_what([])
            yield row


def _with_needs(spec: RunSpec) -> set[str]:
    return {spec.id}.union(*(_with_needs(needed) for needed in spec.needs))


def _row(work: Work, spec: RunSpec, liveness: HolderMonitor, known: Mapping[str, RunRow], now: float) -> RunRow:
    folder = work.folder(spec)
    row = RunRow(spec.id, "to do", epochs=spec.recipe.epochs, label=run_label(spec))
    if folder.is_finished():
        last = read_result(folder.result, spec.role)["last"]
        row.state, row.epoch, row.log = "finished", spec.recipe.epochs, str(folder.path / "log.txt")
        row.top1 = last.get("test_top1", last.get("test_head_top1"))
        return row
    if _at_work(row, folder.path, work.locks.holder(spec.id), liveness, now):
        return row
    lost = [needed.id for needed in spec.needs if known[needed.id].state == "failed"]
    folder.refuse_unreadable()
    if os.path.exists(folder.failure):
        row.state, row.why = "failed", folder.read_failure()["message"]
    elif lost:
        row.state, row.why = "failed", f"not started: it needs {lost[0]}, which failed"
    elif folder.path.exists():
        row.why = f"interrupted: run_all.py goes on with it{_sign(row)}"
    return row


def _at_work(row: RunRow, folder: Path, holder: LockHolder | None, liveness: HolderMonitor, now: float) -> bool:
    """Whether somebody trains the run in this folder, or a job for it waits; the row then says who, and how far it is.
    Of a run that nobody works on the row has how far it came."""
    if folder.exists():
        row.log = str(folder / "log.txt")
    signs = [sign for name in ("progress.json", "log.txt") if (sign := written_at(folder / name)) is not None]
    row.last_sign = max(0.0, round(now - max(signs), 1)) if signs else None
    progress = _progress(folder)
    for name in ("stage", "epoch", "epochs", "top1"):
        setattr(row, name, progress.get(name, getattr(row, name)))
    queued = None
    if holder is not None and liveness(row.id, holder):
        row.job = holder.job or f"pid {holder.pid} on {holder.host}"
        queued = liveness.queued(holder) if holder.job or holder.batch else None
        if queued and queued.state != "RUNNING":
            never = ": it will never start like this" if queued.hopeless else ""
            row.state, row.why, row.job = "waiting", f"{queued.state.lower()}: {queued.reason}{never}", queued.job
            return True
        if holder.batch and not queued:
            row.state, row.why = "waiting", liveness.silent or "being submitted"
            return True
    elif trainer := lock_holder(folder / "train.lock"):  # python -m sskd train
        row.job = trainer
    else:
        return False
    row.state = "running"
    if row.last_sign is None or row.last_sign > SILENT_SECONDS:  # what it says of its pace was another start's
        row.why = "has given no sign yet" if row.last_sign is None else _sign(row).removeprefix("; ")
        return True
    for name in ("images_per_second", "seconds_left", "cores", "gpus"):
        setattr(row, name, progress.get(name, getattr(row, name)))
    return True


def _sign(row: RunRow) -> str:
    return "" if row.last_sign is None else f"; last sign of life {duration(row.last_sign)} ago"


def _progress(folder: Path) -> dict[str, Any]:
    """What progress.json says, as far as it can be read: the next one comes in seconds."""
    try:
        data = json.loads((folder / "progress.json").read_bytes())
    except (OSError, ValueError, RecursionError):
        return {}
    known = data if isinstance(data, dict) else {}
    return {name: known[name] for name, kinds in PROGRESS.items() if isinstance(known.get(name), kinds)}


def show_status(work: Work, cells: Mapping[str, Iterable[Cell]], as_json: bool) -> None:
    """Prints the state once: as JSON, as the screen in a terminal, else as lines."""
    state, console = read_state(work, cells), Console()
    if as_json:
        print(json.dumps(asdict(state), indent=1))
    elif console.is_terminal:
        console.print(as_screen(state, len(state.runs)))
    else:
        print("\n".join(as_lines(state)))


def watch(work: Work, cells: Mapping[str, Iterable[Cell]]) -> State:
    """Shows the state until nobody works on the runs any more, and returns it as it is then: in a terminal the screen,
    else the lines of the state, a line for each run that changes its state, and the totals."""
    pause = max(REFRESH_SECONDS, work.cluster.poll_seconds if work.cluster.kind == "slurm" else 0)
    state, console = read_state(work, cells), Console()
    if not console.is_terminal:
        print("\n".join(as_lines(state)), flush=True)
        while state.at_work:
            time.sleep(pause)
            before = {row.id: row.state for row in state.runs}
            state = read_state(work, cells)
            for row in state.runs:
                if row.state != before[row.id]:
                    print(f"{time.strftime('%H:%M:%S')} {_named(row)}: {row.state}{_details(row)}", flush=True)
        print(summary(state), flush=True)
        return state
    with Live(as_screen(state, console.height), console=console, auto_refresh=False) as live:
        while state.at_work:
            time.sleep(pause)
            state = read_state(work, cells)
            live.update(as_screen(state, console.height), refresh=True)
    return state


def summary(state: State) -> str:
    """The totals, in one line."""
    return totals(_screen_rows(state), sum(row.state == "finished" for row in state.runs), len(state.runs))


def as_lines(state: State) -> list[str]:
    """Plain text: a line for each benchmark, and one for each run that is neither finished nor still to do."""
    lines = [f"Slurm does not answer: {state.slurm}"] if state.slurm else []
    for name, counts in state.benchmarks.items():
        lines.append(f"{name}: " + ", ".join(f"{count} {label}" for label, count in counts.items() if count))
    lines += [f"{_named(row)}: {row.state}{_details(row)}" for row in state.runs if _is_news(row)]
    return lines + _lines_of_others(state)


def _lines_of_others(state: State) -> list[str]:
    return [f"of another request: {row.id}: {row.state}{_details(row)}" for row in state.others]


def as_screen(state: State, height: int) -> RenderableType:
    """What each benchmark has of each state, and the screen of the runs."""
    benchmarks = Table("benchmark", *STATES, title=f"Slurm does not answer: {state.slurm}" if state.slurm else None)
    for name, counts in state.benchmarks.items():
        benchmarks.add_row(name, *(str(counts[label]) for label in STATES))
    finished = sum(row.state == "finished" for row in state.runs)
    room = height - len(state.benchmarks) - 4
    others = _lines_of_others(state)[: max(3, height // 4)]
    shown = screen(_screen_rows(state), finished, len(state.runs), "", room - len(others))
    return Group(benchmarks, shown, *map(Text, others))


def _screen_rows(state: State) -> list[ScreenRow]:
    """The runs that are running, have failed, or wait."""
    return [
        ScreenRow(
            _named(row),
            row.state,
            row.stage,
            row.epoch if row.state == "running" else 0,
            row.epochs,
            row.top1,
            row.images_per_second,
            row.seconds_left,
            row.cores,
            row.gpus,
            ", ".join(filter(None, [row.why, f"job {row.job}" if row.job else ""])),
        )
        for row in state.runs
        if row.state in ORDER
    ]


def _named(row: RunRow) -> str:
    return f"{row.id} ({row.label})" if row.label else row.id


def _is_news(row: RunRow) -> bool:
    return row.state in ("running", "waiting", "failed") or bool(row.why)


def _details(row: RunRow) -> str:
    parts = [row.why]
    if row.epoch:
        parts.append(f"{row.stage + ' ' if row.stage not in ('', 'main') else ''}epoch {row.epoch}/{row.epochs}")
    if row.top1 is not None:
        parts.append(f"top-1 {row.top1:.2f}")
    if row.images_per_second:
        parts.append(f"{row.images_per_second:.0f} images/s")
    if row.seconds_left is not None:
        parts.append(f"{duration(row.seconds_left)} left")
    parts += [f"job {row.job}" if row.job else "", row.log if row.state != "waiting" else ""]
    return "".join(f", {part}" for part in parts if part)
