"""Before runs are started: what cannot run is refused, and what must be trained again is set aside."""

from collections.abc import Sequence
from pathlib import Path

from benchmarks.changes import describe_changes, keep_beside
from benchmarks.dispatch.work import Work
from benchmarks.plan import Plan, check_runs, check_teachers, refuse_hopeless, statuses
from benchmarks.profiles.profile import Profile
from sskd.device import device_of
from sskd.runs.files import check_writable
from sskd.runs.run_folder import RunFolder
from sskd.runs.spec import RunSpec
from sskd.training.trackers import chosen_trackers
from sskd.training.words import plural


def make_ready(work: Work, profile: Profile, folder: Path, anew: Sequence[RunSpec]) -> int:
    """Before runs are started: refuses what cannot run, and sets aside what must be trained again, or is to be
    (``anew``). Returns how many are to be run."""
    root = Path(work.execution.dataset_root)
    check_writable(folder)
    chosen_trackers(work.execution)
    states = with_status(work.plan, folder, anew)
    todo = [spec for spec, state in states if state != "finished"]
    check_runs(todo, profile, root)
    for line in check_teachers(todo, root):
        print(line, flush=True)
    _check_this_machine(work, todo)
    keep_beside(anew, folder / "runs", print)
    _set_aside([spec for spec, state in states if state == "weights lost"], folder)
    runs = plural(len(work.plan.runs), "run")
    print(f"{runs}, {len(work.plan.runs) - len(todo)} of them finished already", flush=True)
    print("".join(f"{line}\n" for line in describe_changes(work.plan, folder / "runs")), end="", flush=True)
    return len(todo)


def with_status(plan: Plan, folder: Path, anew: Sequence[RunSpec]) -> list[tuple[RunSpec, str]]:
    """Each planned run and its state, as plan.statuses tells it."""
    known = statuses(plan, folder / "runs", {spec.id for spec in anew})
    return [(spec, known[spec.id].state) for spec in plan.runs]


def _set_aside(lost: Sequence[RunSpec], folder: Path) -> None:
    for spec in lost:
        print(f"{spec.id} is finished, but its weights are not here, and other runs need them: it is trained again")
        RunFolder(folder / "runs", spec).set_aside()


def _check_this_machine(work: Work, todo: Sequence[RunSpec]) -> None:
    """UserError where what runs here has no data, or not the device that is asked for. Slurm's nodes may have both."""
    if work.cluster.kind == "slurm":
        return
    refuse_hopeless(todo, Path(work.execution.dataset_root))
    if work.execution.device != "auto":
        device_of(work.execution)
