"""NVIDIA's Multi-Process Service (MPS): kernels of several processes run on one GPU at the same time.

Without it the driver lets them take turns, a time slice each: small runs that share a GPU then gain what their host
time leaves idle, and no more. The daemon started here is private (its own pipe and log folders), serves this launcher's
runs only, and ends with it. Source: the manual page of nvidia-cuda-mps-control, and NVIDIA's guide to MPS.
"""

import os
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import NamedTuple

from sskd.console.signals import ENDING, Stopped, stop_signal

CONTROL = "nvidia-cuda-mps-control"
PIPES, LOGS, VISIBLE = "CUDA_MPS_PIPE_DIRECTORY", "CUDA_MPS_LOG_DIRECTORY", "CUDA_VISIBLE_DEVICES"
PATIENCE = 10.0  # seconds for the daemon to answer, and to end
TURNS = "runs that share a GPU take turns on it"


class Sharing(NamedTuple):
    """What the processes of runs that share GPUs are given."""

    environment: Mapping[str, str] = {}
    names: Mapping[str, str] = {}  # of GPUs whose name in CUDA_VISIBLE_DEVICES is another for the daemon's clients

    def visible(self, gpus: Sequence[str]) -> tuple[str, ...]:
        """The names of these GPUs for a run's CUDA_VISIBLE_DEVICES."""
        return tuple(self.names.get(gpu, gpu) for gpu in gpus)


@contextmanager
def sharing(gpu_sets: Sequence[Sequence[str]], logs: Path, log: Callable[[str], None]) -> Iterator[Sharing]:
    """For as long as the block lasts, an MPS daemon where a GPU stands in more than one of ``gpu_sets``.

    ``logs``: the folder for what the daemon writes. Where there is no MPS, or it does not start, says so once, and the
    runs take turns. A daemon that answers already is the user's: it is used, and neither started nor stopped.
    """
    gpus = list(dict.fromkeys(gpu for gpu_set in gpu_sets for gpu in gpu_set))
    if len(gpus) == sum(len(gpu_set) for gpu_set in gpu_sets):  # none is shared
        yield Sharing()
        return
    if shutil.which(CONTROL) is None:
        log(f"{TURNS}: there is no {CONTROL}")
        yield Sharing()
        return
    if _ask("get_server_list", os.environ):
        log("runs that share a GPU use the MPS daemon that is there")
        yield Sharing()
        return
    # until the daemon has been stopped no signal may end this process: the daemon would be left behind
    with stop_signal(*ENDING) as stop:
        pipes = Path(tempfile.mkdtemp(prefix="sskd-mps-"))  # not below ``logs``: a socket's path has 107 bytes at most
        environment = {PIPES: str(pipes), LOGS: str(logs)}
        try:
            problem = _start(environment | {VISIBLE: ",".join(gpus)}, logs)
            if stop():
                raise Stopped(stop.received)
            if problem:
                log(f"{TURNS}: {problem}")
                yield Sharing()
            else:
                log(f"runs that share a GPU use MPS (log: {logs})")
                # a client counts the daemon's GPUs from 0; names that begin with GPU- are the same for both
                yield Sharing(environment, {gpu: str(n) for n, gpu in enumerate(gpus) if gpu.isdigit()})
        finally:
            _end(environment)
            shutil.rmtree(pipes, ignore_errors=True)


def _start(environment: Mapping[str, str], logs: Path) -> str:
    """Starts a daemon and waits until it answers; returns what went wrong, "" if nothing did."""
    try:
        logs.mkdir(parents=True, exist_ok=True)
        done = subprocess.run(
            [CONTROL, "-d"],
            env=os.environ | environment,
            capture_output=True,
            text=True,
            timeout=PATIENCE,
            start_new_session=True,  # Ctrl-C is for the launcher alone
            encoding="utf-8",
            errors="replace",
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        return f"{CONTROL} -d: {error}"
    if done.returncode:
        said = (done.stderr + done.stdout).strip().splitlines()
        return f"{CONTROL} -d: {said[-1] if said else f'status {done.returncode}'}"
    until = time.monotonic() + PATIENCE
    while not _ask("get_server_list", os.environ | environment):
        if time.monotonic() > until:
            return f"{CONTROL} does not answer (see {logs})"
        time.sleep(0.1)
    return ""


def _end(environment: Mapping[str, str]) -> None:
    """Stops the daemon, by its process id if it does not obey."""
    pid_file = Path(environment[PIPES]) / f"{CONTROL}.pid"
    if _ask("quit", os.environ | environment) and not pid_file.exists():
        return
    with suppress(OSError, ValueError):
        pid = int(pid_file.read_text(encoding="utf-8"))
        until = time.monotonic() + PATIENCE
        while time.monotonic() < until:
            os.kill(pid, 0)  # ProcessLookupError, an OSError: it has ended
            time.sleep(0.1)
        os.kill(pid, signal.SIGTERM)


def _ask(command: str, environment: Mapping[str, str]) -> bool:
    """Gives the daemon of that environment a command. Whether it obeyed."""
    try:
        done = subprocess.run(
            [CONTROL],
            input=f"{command}\n",
            env=environment,
            capture_output=True,
            text=True,
            timeout=PATIENCE,
            encoding="utf-8",
            errors="replace",
        )
    except (OSError, subprocess.TimeoutExpired):
        return False
    return done.returncode == 0 and "Cannot find" not in done.stdout + done.stderr
