"""Executes a plan: in this process, in local processes, or on Slurm. One run's failure does not stop the others."""

from benchmarks.dispatch.work import Work
from benchmarks.dispatch.worker import Failure
from sskd.console.progress import Progress


def launch(work: Work, progress: Progress) -> dict[str, Failure]:
    """Executes what is not finished, or waits for whoever does; returns the failures by run id."""
    if work.cluster.kind == "slurm":
        from benchmarks.dispatch.slurm_array import follow, submit

        return follow(work, progress, submit(work, progress.say))
    from benchmarks.dispatch.inline import InlineSlot
    from benchmarks.dispatch.local import local_places, make_slots
    from benchmarks.dispatch.mps import sharing
    from benchmarks.dispatch.scheduler import schedule

    if work.cluster.kind == "inline":
        with work.launching():
            return schedule(work, progress, [InlineSlot(work, progress)])
    places = local_places(work.cluster)
    with work.launching(), sharing([place.gpus for place in places], work.jobs / "mps", progress.say) as shared:
        return schedule(work, progress, make_slots(work, progress, places, shared))
