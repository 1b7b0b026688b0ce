"""Checks before runs start: rejects runs that cannot work, and prepares runs that are trained again."""

from collections.abc import Mapping, Sequence
from pathlib import Path

from benchmarks.dispatch.job import Failure, Job
from benchmarks.planning.memory import MOST, device_memory
from benchmarks.planning.plan import check_runs, check_teachers, given_teachers, refuse_hopeless, statuses
from benchmarks.planning.staleness import archive_runs, describe_changes
from benchmarks.profiles.profile import Profile
from benchmarks.profiles.teachers import check_accuracy
from sskd.console.trackers import chosen_trackers
from sskd.formatting import plural
from sskd.runs.files import check_writable
from sskd.runs.run_folder import RunFolder, Status
from sskd.runs.spec import RunSpec
from sskd.runtime.device import device_of


def preflight(job: Job, profile: Profile, folder: Path, rerun: Sequence[RunSpec]) -> int:
    """Checks the job, and prepares the runs that are trained again: those in ``rerun``, and those whose weights are
    lost. Returns the number of runs to train."""
    root = Path(job.execution.dataset_root)
    check_writable(folder)
    chosen_trackers(job.execution)
    known = statuses(job.plan, folder / "runs", {spec.id for spec in rerun})
    todo = [spec for spec in job.plan.runs if known[spec.id].state != "finished"]
    check_runs(todo, profile, root, room(job))
    for line in check_teachers(todo, root):
        print(line, flush=True)
    _check_this_machine(job, todo)
    archive_runs(rerun, folder / "runs", print)
    for spec in todo:
        if known[spec.id].state == "weights lost":
            archived = RunFolder(folder / "runs", spec).archive().name
            print(
                f"{spec.id} is finished, but its weights are missing and other runs need them: it is trained again; "
                f"the old run is archived as {archived}"
            )
    runs, unreadable = plural(len(job.plan.runs), "run"), len(damaged(known))
    but = f", {unreadable} with an unreadable result" if unreadable else ""
    print(f"{runs}, {len(job.plan.runs) - len(todo) - unreadable} of them finished{but}", flush=True)
    print("".join(f"{line}\n" for line in describe_changes(job.plan, folder / "runs")), end="", flush=True)
    return len(todo)


def room(job: Job) -> float:
    """Returns the memory (bytes) that a run has on this machine; MOST for Slurm, whose nodes are not known here."""
    return MOST if job.cluster.kind == "slurm" else device_memory(job.execution)


def damaged(known: Mapping[str, Status]) -> dict[str, Failure]:
    """Returns the finished runs whose result.json cannot be read, with the reason, by id. known: from plan.statuses."""
    return {run_id: Failure(at.message) for run_id, at in known.items() if at.state == "finished" and at.message}


def _check_this_machine(job: Job, todo: Sequence[RunSpec]) -> None:
    """Raises UserError if a run on this machine would lack its data or device. Does nothing for Slurm."""
    if job.cluster.kind == "slurm":
        return
    refuse_hopeless(todo, Path(job.execution.dataset_root))
    for teacher, dataset in given_teachers(todo):
        print(check_accuracy(teacher, dataset, job.execution), end="", flush=True)
    if job.execution.device != "auto":
        device_of(job.execution)
