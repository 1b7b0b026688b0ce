"""Status of a suite from run folders, locks and Slurm's queue; readable by any process at any time."""

import json
import os
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.table import Table
from rich.text import Text

from benchmarks.dispatch.cancel import held_runs
from benchmarks.dispatch.job import Job, waiting_reason
from benchmarks.dispatch.launchers import launchers, planned_by
from benchmarks.dispatch.slurm_queue import Queue
from benchmarks.dispatch.worker import PROGRESS, read_standing
from benchmarks.tables.cell import Cell
from benchmarks.tables.spec_builder import run_label
from sskd.console.screen import ORDER, ScreenRow, screen, totals
from sskd.errors import UserError
from sskd.formatting import duration
from sskd.runs.files import lock_holder
from sskd.runs.records import read_result, shown_top1
from sskd.runs.spec import RunSpec, with_ancestors

STATES = ("finished", "running", "waiting", "failed", "to do")
REFRESH_SECONDS = 2.0
HEARTBEAT_TIMEOUT = 120.0  # without heartbeat a run's speed is not shown; a training run writes every 2 s


@dataclass
class RunRow:
    """Status of a run. Times in seconds; top1 in percent, at the newest epoch."""

    id: str
    state: str  # one of STATES
    why: str = ""  # reason of waiting or failure
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
    label: str = ""  # method's name in tables; ids of crd and crd+kd differ only in their hash
    last_sign: float | None = None  # seconds since the last heartbeat of an unfinished run; None before the first


@dataclass
class State:
    """Status of all runs, and the number of each benchmark's runs per state."""

    runs: list[RunRow]
    benchmarks: dict[str, dict[str, int]]
    slurm: str = ""  # its message if it does not answer
    launchers: tuple[str, ...] = ()  # processes that will start more runs
    others: tuple[RunRow, ...] = ()  # running or waiting runs of other requests in the folder

    @property
    def all_finished(self) -> bool:
        return all(row.state == "finished" for row in self.runs)

    @property
    def at_work(self) -> bool:
        """Returns True if a run is running or waiting, or a launcher will start more."""
        return bool(self.launchers) or any(row.state in ("running", "waiting") for row in self.runs)


def read_state(job: Job, cells: Mapping[str, Iterable[Cell]]) -> State:
    """Returns the status of the job's runs, and of other requests' runs in the folder."""
    seen = _Seen(job)
    rows: dict[str, RunRow] = {}
    for spec in job.plan.runs:  # dependencies come first
        try:
            rows[spec.id] = _row(job, spec, seen, rows)
        except UserError as error:  # a damaged file only affects this run
            rows[spec.id] = RunRow(spec.id, "failed", str(error))
    counts = {}
    for name, group in cells.items():
        ids = with_ancestors(cell.spec for cell in group)
        counts[name] = {state: sum(rows[run_id].state == state for run_id in ids) for state in STATES}
    others = []
    for run_id in sorted({*held_runs(job), *seen.queue.runs(), *seen.planned} - rows.keys()):
        row = RunRow(run_id, "to do")
        if not os.path.exists(job.runs / run_id / "result.json") and _at_work(row, job.runs / run_id, seen):
            others.append(row)
    at_work = [str(launcher.holder) for launcher in seen.launchers if launcher.starts]
    at_work += [f"job {slurm_job.number} of {slurm_job.submission.user}" for slurm_job in seen.queue.pools]
    return State(list(rows.values()), counts, seen.queue.slurm_error, tuple(at_work), tuple(others))


class _Seen:
    """Queue and launchers of the folder at this moment."""

    def __init__(self, job: Job) -> None:
        self.queue, self.launchers = Queue(job.jobs_folder), launchers(job.jobs_folder)
        self.planned = planned_by(self.launchers)


def _row(job: Job, spec: RunSpec, seen: _Seen, known: Mapping[str, RunRow]) -> RunRow:
    folder = job.folder(spec)
    row = RunRow(spec.id, "to do", epochs=spec.recipe.epochs, label=run_label(spec))
    if folder.is_finished():
        last = read_result(folder.result, spec.role)["last"]
        row.state, row.epoch, row.log = "finished", spec.recipe.epochs, str(folder.path / "log.txt")
        row.top1 = shown_top1(last)
        return row
    needed = [other.id for other in spec.dependencies if known[other.id].state != "finished"]
    if _at_work(row, folder.path, seen, needed) and row.state == "running":
        return row
    lost = [run_id for run_id in needed if known[run_id].state == "failed"]
    folder.refuse_unreadable()
    if os.path.exists(folder.failure):
        row.state, row.why = "failed", folder.read_failure()["message"]
    elif lost and not seen.queue.tasks.get(spec.id):
        row.state, row.why = "failed", f"not started: it needs {lost[0]}, which failed"
    elif row.state == "to do" and folder.path.exists():
        row.why = f"interrupted: run_all.py resumes it{_heartbeat(row)}"
    return row


def _at_work(row: RunRow, folder: Path, seen: _Seen, needed: Sequence[str] = ()) -> bool:
    """Returns True if a process trains the run, or it waits for a job or a free slot. Fills the row with who trains it
    and its progress; also for an interrupted run."""
    if folder.exists():
        row.log = str(folder / "log.txt")
    signs = [os.stat(file).st_mtime for name in (PROGRESS, "log.txt") if os.path.exists(file := folder / name)]
    row.last_sign = max(0.0, round(time.time() - max(signs), 1)) if signs else None
    standing = read_standing(folder)
    if standing:
        row.stage, row.epoch, row.epochs, row.top1 = standing[:4]
    slurm_job, holder = seen.queue.tasks.get(row.id), lock_holder(folder / "train.lock")
    pending = next((pool for pool in seen.queue.pools if row.id in pool.ids), None)
    if slurm_job and slurm_job.state not in ("RUNNING", "UNKNOWN"):
        never = ": it will never start with these parameters" if slurm_job.hopeless else ""
        row.state, row.why, row.job = "waiting", f"{slurm_job.why}{never}", slurm_job.number
    elif holder or (slurm_job and slurm_job.state == "RUNNING"):
        row.state = "running"
        row.job = (
            slurm_job.number if slurm_job else holder.job or f"pid {holder.pid} on {holder.host}" if holder else ""
        )
        if row.last_sign is None or row.last_sign > HEARTBEAT_TIMEOUT:  # its speed is that of an earlier start
            row.why = "no heartbeat yet" if row.last_sign is None else _heartbeat(row).removeprefix("; ")
        elif standing:
            row.images_per_second, row.seconds_left, row.cores, row.gpus = standing[4:]
    elif slurm_job:
        row.state, row.why = "waiting", slurm_job.why
    elif row.id in seen.planned or (pending and pending.state == "RUNNING"):
        row.state, row.why = "waiting", waiting_reason(needed)
    elif pending:
        row.state, row.why, row.job = "waiting", pending.why, pending.number
    return row.state != "to do"


def _heartbeat(row: RunRow) -> str:
    return "" if row.last_sign is None else f"; last heartbeat {duration(row.last_sign)} ago"


def show_status(job: Job, cells: Mapping[str, Iterable[Cell]], as_json: bool) -> None:
    """Prints the status once: as JSON, as a screen in a terminal, else as lines."""
    state, console = read_state(job, cells), Console()
    if as_json:
        print(json.dumps(asdict(state), indent=1))
    elif console.is_terminal:
        console.print(as_screen(state, len(state.runs)))
    else:
        print("\n".join(as_lines(state)))


def watch(job: Job, cells: Mapping[str, Iterable[Cell]]) -> State:
    """Shows the status until no process works on the runs, and returns the last one: a screen in a terminal, else lines
    for the status, for each change of a run's state, and for the totals."""
    pause = max(REFRESH_SECONDS, job.cluster.poll_seconds if job.cluster.kind == "slurm" else 0)
    state, console = read_state(job, cells), Console()
    if not console.is_terminal:
        print("\n".join(as_lines(state)), flush=True)
        while state.at_work:
            time.sleep(pause)
            before = {row.id: row.state for row in state.runs}
            state = read_state(job, cells)
            for row in state.runs:
                if row.state != before[row.id]:
                    print(f"{time.strftime('%H:%M:%S')} {_named(row)}: {row.state}{_details(row)}", flush=True)
        print(summary(state), flush=True)
        return state
    with Live(as_screen(state, console.height), console=console, auto_refresh=False) as live:
        while state.at_work:
            time.sleep(pause)
            state = read_state(job, cells)
            live.update(as_screen(state, console.height), refresh=True)
    return state


def summary(state: State) -> str:
    """Returns the totals in one line."""
    return totals(_screen_rows(state), sum(row.state == "finished" for row in state.runs), len(state.runs))


def as_lines(state: State) -> list[str]:
    """Returns the status as text: a line per benchmark, and one per run that is neither finished nor still to do."""
    lines = [f"Slurm does not answer: {state.slurm}"] if state.slurm else []
    for name, counts in state.benchmarks.items():
        lines.append(f"{name}: " + ", ".join(f"{count} {label}" for label, count in counts.items() if count))
    lines += [f"{_named(row)}: {row.state}{_details(row)}" for row in state.runs if _is_news(row)]
    return lines + _lines_of_others(state)


def _lines_of_others(state: State) -> list[str]:
    return [f"of another request: {row.id}: {row.state}{_details(row)}" for row in state.others]


def as_screen(state: State, height: int) -> RenderableType:
    """Returns the screen: a table of states per benchmark, and the runs."""
    benchmarks = Table("benchmark", *STATES, title=f"Slurm does not answer: {state.slurm}" if state.slurm else None)
    for name, counts in state.benchmarks.items():
        benchmarks.add_row(name, *(str(counts[label]) for label in STATES))
    finished = sum(row.state == "finished" for row in state.runs)
    room = height - len(state.benchmarks) - 4
    others = _lines_of_others(state)[: max(3, height // 4)]
    shown = screen(_screen_rows(state), finished, len(state.runs), "", room - len(others))
    return Group(benchmarks, shown, *map(Text, others))


def _screen_rows(state: State) -> list[ScreenRow]:
    """Returns the rows of running, failed and waiting runs."""
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
