"""Signals that tell a process to end: at the first a run saves and ends, a second Ctrl-C ends it at once
(docs/reliability.md)."""

import os
import signal
import stat
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from types import FrameType

ENDING = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)  # SIGHUP: the terminal was closed


class StopSignal:
    """Becomes true when the process is told to end. It is what ``train`` is given as ``should_stop``.

    USR2 comes from submitit before the time limit and at a preemption: save and requeue. TERM comes from Slurm (which
    requeues by itself where that is wanted), from ``cancel``, or from a machine that shuts down: save and end. HUP
    comes from a terminal that was closed: save and end, and print nothing more.
    """

    def __init__(self) -> None:
        self.received: signal.Signals | None = None

    def __call__(self) -> bool:
        return self.received is not None

    def receive(self, number: int, frame: FrameType | None) -> None:
        """Python's signal handler. Raises KeyboardInterrupt at the second Ctrl-C."""
        if number == self.received == signal.SIGINT:
            raise KeyboardInterrupt  # a second Ctrl-C: at once, then
        self.received = signal.Signals(number)
        if number == signal.SIGHUP:
            _leave_terminal()


@contextmanager
def stop_signal(*numbers: signal.Signals) -> Iterator[StopSignal]:
    """A StopSignal that catches the given signals, until the end of the block. SIGHUP that this process was started to
    ignore, as by nohup, stays ignored."""
    stop = StopSignal()
    numbers = tuple(n for n in numbers if n != signal.SIGHUP or signal.getsignal(n) != signal.SIG_IGN)
    main = threading.current_thread() is threading.main_thread()  # Python lets no other thread catch signals
    before = {number: signal.signal(number, stop.receive) for number in numbers if main}
    try:
        yield stop
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _leave_terminal() -> None:
    """What is still printed goes nowhere: a closed terminal answers it with an error. Files and pipes stay."""
    for output in (1, 2):
        with suppress(OSError):
            if stat.S_ISCHR(os.fstat(output).st_mode):
                nowhere = os.open(os.devnull, os.O_WRONLY)
                os.dup2(nowhere, output)
                os.close(nowhere)


class Stopped(KeyboardInterrupt):
    """The work was told to end, and has saved how far it is. ``status``: the shell's exit status for that signal."""

    def __init__(self, received: signal.Signals | None, message: str = "") -> None:
        super().__init__(message)
        self.status = 128 + (received or signal.SIGINT)
