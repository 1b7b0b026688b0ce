"""A slot in this process: ``start`` returns when the run has ended."""

from functools import partial

from benchmarks.dispatch.job import Job
from benchmarks.dispatch.scheduler import Slot
from benchmarks.dispatch.worker import attempt, execute
from sskd.console.progress import Progress
from sskd.console.signals import StopSignal
from sskd.runs.spec import RunSpec
from sskd.runtime.device import cores_and_gpus
from sskd.training.run import Interrupted


class InlineSlot(Slot):
    """A slot that trains in this process."""

    def __init__(self, job: Job, progress: Progress) -> None:
        self._job, self._progress = job, progress

    def start(self, spec: RunSpec, stop: StopSignal) -> None:
        """Trains the run. If it is interrupted, this is logged, and the run has neither result nor failure."""
        job, self.failure = self._job, None
        with self._progress.run(spec, *cores_and_gpus(job.execution, spec.recipe.processes)) as show:
            train = partial(
                execute, spec, job.runs, job.execution, stop, job.plugins, show=show, log=self._progress.log
            )
            try:
                self.failure = attempt(spec, job.runs, train)
            except Interrupted as reason:
                self._progress.log(str(reason))
