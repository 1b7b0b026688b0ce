"""Signals that end a process: at the first, a run saves its state and ends; a second Ctrl-C ends it immediately
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
    """Becomes true when the process receives a signal to end; ``train`` gets it as ``should_stop``.

    submitit sends USR2 before the time limit and at a preemption: save and requeue. TERM comes from Slurm (which
    requeues by itself if configured), from ``cancel``, or from a machine that shuts down: save and end. HUP comes from
    a closed terminal: save and end, and print nothing more.
    """

    def __init__(self) -> None:
        self.received: signal.Signals | None = None

    def __call__(self) -> bool:
        return self.received is not None

    def receive(self, number: int, frame: FrameType | None) -> None:
        """Handles a signal. Raises KeyboardInterrupt at the second Ctrl-C."""
        if number == self.received == signal.SIGINT:
            raise KeyboardInterrupt
        self.received = signal.Signals(number)
        if number == signal.SIGHUP:
            _leave_terminal()


@contextmanager
def stop_signal(*numbers: signal.Signals) -> Iterator[StopSignal]:
    """Yields a StopSignal that catches the given signals during the block. SIGHUP stays ignored if the process was
    started so, as with nohup."""
    stop = StopSignal()
    numbers = tuple(n for n in numbers if n != signal.SIGHUP or signal.getsignal(n) != signal.SIG_IGN)
    main = threading.current_thread() is threading.main_thread()  # only the main thread can set signal handlers
    before = {number: signal.signal(number, stop.receive) for number in numbers if main}
    try:
        yield stop
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _leave_terminal() -> None:
    """Redirects output from a closed terminal to /dev/null, because printing to it would raise an error. Files and
    pipes are kept."""
    for output in (1, 2):
        with suppress(OSError):
            if stat.S_ISCHR(os.fstat(output).st_mode):
                nowhere = os.open(os.devnull, os.O_WRONLY)
                os.dup2(nowhere, output)
                os.close(nowhere)


class Stopped(KeyboardInterrupt):
    """The process was told to end and has saved its state. ``status``: the shell's exit status for that signal."""

    def __init__(self, received: signal.Signals | None, message: str = "") -> None:
        super().__init__(message)
        self.status = 128 + (received or signal.SIGINT)
