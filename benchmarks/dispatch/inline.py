"""A slot in this process: a run is over when it has been started."""

from functools import partial

from benchmarks.dispatch.work import Failure, Work
from benchmarks.dispatch.worker import attempt, execute
from sskd.console.progress import Progress
from sskd.console.signals import StopSignal
from sskd.runs.spec import RunSpec
from sskd.runtime.device import cores_and_gpus
from sskd.training.run import Interrupted


class InlineSlot:
    """See benchmarks.dispatch.scheduler.Slot."""

    def __init__(self, work: Work, progress: Progress) -> None:
        self._work, self._progress = work, progress
        self.failure: Failure | None = None

    def start(self, spec: RunSpec, stop: StopSignal) -> None:
        """Trains the run. Interrupted, it says so, and leaves neither result nor failure."""
        work, self.failure = self._work, None
        with self._progress.run(spec, *cores_and_gpus(work.execution, spec.recipe.processes)) as show:
            train = partial(
                execute, spec, work.runs, work.execution, stop, work.plugins, show=show, log=self._progress.log
            )
            try:
                self.failure = attempt(spec, work.runs, train)
            except Interrupted as reason:
                self._progress.log(str(reason))

    def ended(self) -> bool:
        return True

    def terminate(self) -> None:
        """Nothing runs between two calls of ``start``."""

    def kill(self) -> None:
        """Nothing runs between two calls of ``start``."""
