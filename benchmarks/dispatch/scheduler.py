"""One loop that executes a plan in slots: places for one run each, in this process or in others.

It knows claims, retries, failures and what needs what. A slot knows how to run one run, and nothing else.
"""

import time
from collections.abc import Sequence
from typing import NamedTuple, Protocol

from benchmarks.dispatch.retries import retry
from benchmarks.dispatch.run_lock import LockHolder, file_time
from benchmarks.dispatch.slurm_queue import HolderMonitor
from benchmarks.dispatch.work import Work, cancelled_since, needs_failed, tell_who, waits_for_what
from benchmarks.dispatch.worker import Failure, read_standing
from sskd.console.progress import Progress
from sskd.console.signals import ENDING, Stopped, StopSignal, stop_signal
from sskd.runs.files import read_json
from sskd.runs.spec import RunSpec

ENDING_SECONDS = 0.05  # between looks at whether runs that were told to end have done so


class Slot(Protocol):
    """A place for one run at a time."""

    @property
    def failure(self) -> Failure | None:
        """Why the last run failed, as it said itself; None if it did not, or ended without a word."""

    def start(self, spec: RunSpec, holder: LockHolder, stop: StopSignal) -> None:
        """Starts a claimed run. A slot in this process returns when it has ended, which ``stop`` makes it do early."""

    def ended(self) -> bool:
        """Whether nothing works on the run any more."""

    def terminate(self) -> None:
        """Asks the run to save its state and to end."""

    def kill(self) -> None:
        """Ends the run at once."""


class Active(NamedTuple):
    """A run under way."""

    spec: RunSpec
    holder: LockHolder
    slot: Slot
    since: float


def schedule(work: Work, progress: Progress, slots: Sequence[Slot]) -> dict[str, Failure]:
    """Executes what is not finished, as many runs at once as there are slots; returns the failures by run id.

    Another run_all.py may work on the same: each takes what is free, and waits for the rest. At SIGTERM, the first
    Ctrl-C, a closed terminal, or cancel, all runs save and end, and this raises Stopped; at a second Ctrl-C they end
    at once.
    """
    loop = _Loop(work, progress, slots)
    with stop_signal(*ENDING) as stop:
        try:
            while loop.todo:
                if loop.is_stopped(stop):
                    raise Stopped(stop.received)
                changed = loop.collect(stop)
                changed = loop.fill(stop) or changed
                work.still_launching()
                if loop.todo and not changed:
                    time.sleep(work.cluster.poll_seconds)
        finally:
            loop.end_all()
    return loop.failures


class _Loop:
    """Where the execution of a plan stands."""

    def __init__(self, work: Work, progress: Progress, slots: Sequence[Slot]) -> None:
        self.work, self.progress = work, progress
        self.started = file_time(work.jobs) or time.time()
        self.free = list(slots)
        self.active: dict[str, Active] = {}
        self.failures: dict[str, Failure] = {}
        self.given_up = {spec.id: failure for spec in work.plan.runs if (failure := work.given_up(spec))}
        # what others wait for comes first, so that no slot is idle for want of a teacher or a head
        waited_for = {needed.id for spec in work.plan.runs for needed in spec.needs}
        order = sorted(work.plan.runs, key=lambda spec: spec.id not in waited_for)
        self.todo = {spec.id: spec for spec in order if not work.finished(spec)}
        self._told: set[str] = set()  # runs of which was said that another has them
        self._liveness = HolderMonitor(work.runs)
        self._begun: set[str] = set()  # runs that this loop has started before

    def is_stopped(self, stop: StopSignal) -> bool:
        return stop() or cancelled_since(self.work, self.started)

    def collect(self, stop: StopSignal) -> bool:
        """Settles the runs that have ended, and shows how far the others are. Whether any has ended."""
        ended = [run for run in self.active.values() if run.slot.ended()]
        if ended and self.is_stopped(stop):
            return False  # they have not failed: they were told to end
        for run in ended:
            del self.active[run.spec.id]
            self.free.append(run.slot)
            self.progress.hide(run.spec.id)
            self._settle(run)
        for run in self.active.values():
            standing = read_standing(self.work.folder(run.spec).path, run.since)
            if standing:
                self.progress.show(run.spec.id, standing)
        return bool(ended)

    def fill(self, stop: StopSignal) -> bool:
        """Starts runs in the free slots. Whether anything was started, or found to be finished or hopeless."""
        changed, self._liveness = False, self._liveness.renewed()
        for spec in list(self.todo.values()):
            if stop():
                break
            if spec.id in self.active:
                continue
            waits_for = [needed.id for needed in spec.needs if needed.id in self.todo]
            if waits_for:
                self.progress.wait(spec.id, waits_for_what(waits_for))
                continue
            failure = self.given_up.get(spec.id) or needs_failed(spec, self.failures)
            if failure:
                self._fail(spec, failure)
            elif not self.free:
                self.progress.wait(spec.id, waits_for_what([]))
                continue
            elif not self._begin(spec, stop):
                continue
            changed = True
        return changed

    def _begin(self, spec: RunSpec, stop: StopSignal) -> bool:
        """Starts the run unless another has it. True if so, or if another has finished it."""
        holder = LockHolder()
        if not self.work.acquire(spec, holder, self._liveness):
            if not self.work.finished(spec):
                tell_who(self.work, spec, self.progress, self._told)
                return False
            del self.todo[spec.id]
            self.progress.hide(spec.id)
            return True
        if spec.id not in self._begun:
            self._begun.add(spec.id)
            self.work.start_afresh(spec)
        slot = self.free.pop(0)
        self.progress.hide(spec.id)
        self.active[spec.id] = Active(spec, holder, slot, time.time())
        slot.start(spec, holder, stop)
        return True

    def _settle(self, run: Active) -> None:
        """After a run has ended: finished, to be started again, or failed."""
        work, spec = self.work, run.spec
        if work.finished(spec):
            del self.todo[spec.id]
            work.locks.delete(spec.id)
            self.progress.finished(spec, read_json(work.folder(spec).result))
            return
        holder = work.locks.holder(spec.id)
        if holder is None or holder.token != run.holder.token:
            return  # another has taken it over
        line, failure = self._retry(run)
        if line:
            self.progress.say(line)
        elif failure:
            self._fail(spec, failure)
        work.locks.release(spec.id, holder.token)

    def _retry(self, run: Active) -> tuple[str, Failure | None]:
        """What is to be said of a run that is started again, or the failure of one that is not."""
        work, noted = self.work, self.work.folder(run.spec).failure
        if run.slot.failure and not noted.exists():  # the disk is full, or the folder is another's: not to be counted
            return "", run.slot.failure
        try:
            line = retry(work.runs, run.spec.id, work.cluster.retries.model_dump(), "its process was killed")
            if line or run.slot.failure:
                return line, run.slot.failure
            data = self.work.folder(run.spec).read_failure()
        except OSError as error:
            return "", Failure(f"ended without a result, and its attempts cannot be noted: {error.strerror}")
        return "", Failure(data["message"], data.get("kind") == "input")

    def _fail(self, spec: RunSpec, failure: Failure) -> None:
        del self.todo[spec.id]
        self.failures[spec.id] = failure
        self.progress.failed(spec.id, failure.message)

    def end_all(self) -> None:
        """Has what is under way save and end, waits for that, and gives the runs back."""
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
        finally:
            for run in runs:
                self.work.locks.release(run.spec.id, run.holder.token)
