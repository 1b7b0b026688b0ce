"""The loop that executes a job in slots; a slot executes one run at a time, in this process or in another.

The loop handles retries, failures and dependencies; a slot only executes a run. The lock that training takes
(train.lock in the run's folder) decides which process trains a run.
"""

import time
from collections import Counter
from collections.abc import Callable, Sequence
from typing import NamedTuple

from benchmarks.dispatch.job import Failure, Job, needs_failed, waiting_reason
from benchmarks.dispatch.launchers import launching
from benchmarks.dispatch.retries import retry
from benchmarks.dispatch.worker import read_standing
from sskd.console.progress import Progress
from sskd.console.signals import ENDING, Stopped, StopSignal, stop_signal
from sskd.errors import UserError
from sskd.runs.files import read_json
from sskd.runs.spec import RunSpec

ENDING_SECONDS = 0.05  # poll interval while runs end


class Slot:
    """Executes one run at a time. The defaults suit a slot whose ``start`` returns when the run has ended."""

    failure: Failure | None = None  # why the last run failed; None if it did not fail, or left no message

    def start(self, spec: RunSpec, stop: StopSignal) -> None:
        """Starts a run. ``stop`` makes it end early."""
        raise NotImplementedError

    def ended(self) -> bool:
        """Returns True if no process works on the run."""
        return True

    def terminate(self) -> None:
        """Asks the run to save its state and to end."""

    def kill(self) -> None:
        """Ends the run immediately."""


class Active(NamedTuple):
    """A running run."""

    spec: RunSpec
    slot: Slot
    since: float


def schedule(job: Job, progress: Progress, slots: Sequence[Slot]) -> dict[str, Failure]:
    """Executes the unfinished runs, one per slot in parallel. Returns the failures by run id.

    Several run_all.py may execute the same job: each takes free runs and waits for the others. At SIGTERM, the first
    Ctrl-C, a closed terminal or cancel, all runs save and end, and Stopped is raised; at a second Ctrl-C they end
    immediately.
    """
    with launching(job) as cancelled, stop_signal(*ENDING) as stop:
        loop = _Loop(job, progress, slots, stop, cancelled)
        try:
            while loop.todo:
                if loop.is_stopped():
                    raise Stopped(stop.received)
                changed = loop.collect()
                changed = loop.fill() or changed
                if loop.todo and not changed:
                    time.sleep(job.cluster.poll_seconds)
        finally:
            loop.end_all()
    return loop.failures


class _Loop:
    """State of the execution."""

    def __init__(
        self, job: Job, progress: Progress, slots: Sequence[Slot], stop: StopSignal, cancelled: Callable[[], bool]
    ) -> None:
        self.job, self.progress = job, progress
        self.stop, self.cancelled = stop, cancelled
        self.free = list(slots)
        self.active: dict[str, Active] = {}
        self.failures: dict[str, Failure] = {}
        self.given_up = {spec.id: failure for spec in job.plan.runs if (failure := job.given_up(spec))}
        # runs that others depend on come first, so that no slot waits for a teacher or a head
        waited_for = {needed.id for spec in job.plan.runs for needed in spec.dependencies}
        self.todo = {spec.id: spec for spec in sorted(job.unfinished, key=lambda spec: spec.id not in waited_for)}
        self._told: set[str] = set()  # runs whose other trainer was logged
        self._starts = Counter[str]()

    def is_stopped(self) -> bool:
        return self.stop() or self.cancelled()

    def collect(self) -> bool:
        """Processes the runs that have ended, and updates the display of the others. Returns True if any has ended."""
        ended = [run for run in self.active.values() if run.slot.ended()]
        if ended and self.is_stopped():
            return False  # they were told to end, so they have not failed
        for run in ended:
            del self.active[run.spec.id]
            self.free.append(run.slot)
            self.progress.hide(run.spec.id)
            self._settle(run)
        for run in self.active.values():
            standing = read_standing(self.job.folder(run.spec).path, run.since)
            if standing:
                self.progress.show(run.spec.id, standing)
        return bool(ended)

    def fill(self) -> bool:
        """Starts runs in the free slots. Returns True if a run was started, was already finished, or was marked as
        failed."""
        changed = False
        for spec in list(self.todo.values()):
            if self.stop():
                break
            if spec.id in self.active:
                continue
            waits_for = [needed.id for needed in spec.dependencies if needed.id in self.todo]
            failure = self.given_up.get(spec.id) or needs_failed(spec, self.failures)
            if waits_for or (not failure and not self.free):
                self.progress.wait(spec.id, waiting_reason(waits_for))
            elif failure:
                self._fail(spec, failure)
                changed = True
            else:
                changed = self._begin(spec) or changed
        return changed

    def _begin(self, spec: RunSpec) -> bool:
        """Starts the run unless another process trains it. Returns True if it was started or is already finished."""
        if self.job.finished(spec):
            self._take_off(spec)
            return True
        if holder := self.job.folder(spec).lock_holder():
            self.progress.wait(spec.id, f"{holder} has it")
            if spec.id not in self._told:
                self._told.add(spec.id)
                self.progress.log(f"{spec.id}: {holder} has it; waiting")
            return False
        if not self._starts[spec.id]:
            self.job.start_afresh(spec)
        self._starts[spec.id] += 1
        slot = self.free.pop(0)
        self.progress.hide(spec.id)
        self.active[spec.id] = Active(spec, slot, time.time())
        slot.start(spec, self.stop)
        return True

    def _settle(self, run: Active) -> None:
        """Processes the end of a run: finished, started again, or failed."""
        job, spec, failure = self.job, run.spec, run.slot.failure
        folder = job.folder(spec)
        if job.finished(spec):
            self._take_off(spec)
            self.progress.finished(spec, read_json(folder.result))
        elif failure and failure.kind == "held":  # another process was faster: wait for it
            self._starts[spec.id] -= 1
        elif failure and not folder.failure.exists():  # full disk, or another user's folder
            self._fail(spec, failure)
        else:
            try:
                done, allowed = self._starts[spec.id] - 1, job.cluster.retries
                line = retry(folder.path, done, allowed, "its process was killed")
            except (OSError, UserError) as error:
                self._fail(
                    spec, failure or Failure(f"ended without a result, and its failure cannot be written: {error}")
                )
                return
            if line:
                self.progress.log(line)
            else:
                self._fail(spec, failure or job.noted_failure(spec) or Failure("ended without a result"))

    def _take_off(self, spec: RunSpec) -> None:
        del self.todo[spec.id]
        self.progress.hide(spec.id)

    def _fail(self, spec: RunSpec, failure: Failure) -> None:
        del self.todo[spec.id]
        self.failures[spec.id] = failure
        self.progress.failed(spec.id, failure.message)

    def end_all(self) -> None:
        """Tells all running runs to save and end, and waits for them."""
        runs = list(self.active.values())
        try:
            for run in runs:
                run.slot.terminate()
            while not all(run.slot.ended() for run in runs):
                time.sleep(ENDING_SECONDS)
        except KeyboardInterrupt:  # a second Ctrl-C
            for run in runs:
                run.slot.kill()
            raise
