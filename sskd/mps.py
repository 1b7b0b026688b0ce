"""NVIDIA's Multi-Process Service (MPS): kernels of several processes run on one GPU at the same time.

Without MPS, the driver time-slices the GPU: small runs that share it then only use the time when another run leaves it
idle. The daemon started here is private (its own pipe and log folders), only serves the runs of this launcher, and ends
with it. Source: the manual page of nvidia-cuda-mps-control, and NVIDIA's guide to MPS.
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
PATIENCE = 10.0  # seconds for the daemon to answer, or to end
TIME_SLICED = "runs that share a GPU are time-sliced"


class Sharing(NamedTuple):
    """Environment of the processes of runs that share GPUs."""

    environment: Mapping[str, str] = {}
    names: Mapping[str, str] = {}  # GPUs that clients of the daemon must name differently in CUDA_VISIBLE_DEVICES

    def visible(self, gpus: Sequence[str]) -> tuple[str, ...]:
        """Returns the names of these GPUs for a run's CUDA_VISIBLE_DEVICES."""
        return tuple(self.names.get(gpu, gpu) for gpu in gpus)


@contextmanager
def sharing(gpu_sets: Sequence[Sequence[str]], logs: Path, log: Callable[[str], None]) -> Iterator[Sharing]:
    """Runs an MPS daemon during the block, if a GPU is in more than one of ``gpu_sets``.

    ``logs``: folder for the daemon's logs. If MPS is not available or does not start, this is logged once, and the runs
    are time-sliced. A daemon that is already running is used, and neither started nor stopped.
    """
    gpus = list(dict.fromkeys(gpu for gpu_set in gpu_sets for gpu in gpu_set))
    if len(gpus) == sum(len(gpu_set) for gpu_set in gpu_sets):  # none is shared
        yield Sharing()
        return
    if shutil.which(CONTROL) is None:
        log(f"{TIME_SLICED}: there is no {CONTROL}")
        yield Sharing()
        return
    if _ask("get_server_list", os.environ):
        log("runs that share a GPU use the running MPS daemon")
        yield Sharing()
        return
    # signals are caught until the daemon is stopped, so that it never outlives this process
    with stop_signal(*ENDING) as stop:
        pipes = Path(tempfile.mkdtemp(prefix="sskd-mps-"))  # not in ``logs``: a socket's path has at most 107 bytes
        environment = {PIPES: str(pipes), LOGS: str(logs)}
        try:
            problem = _start(environment | {VISIBLE: ",".join(gpus)}, logs)
            if stop():
                raise Stopped(stop.received)
            if problem:
                log(f"{TIME_SLICED}: {problem}")
                yield Sharing()
            else:
                log(f"runs that share a GPU use MPS (log: {logs})")
                # clients number the daemon's GPUs from 0; names that begin with GPU- do not change
                yield Sharing(environment, {gpu: str(n) for n, gpu in enumerate(gpus) if gpu.isdigit()})
        finally:
            _end(environment)
            shutil.rmtree(pipes, ignore_errors=True)


def _start(environment: Mapping[str, str], logs: Path) -> str:
    """Starts a daemon and waits until it answers. Returns what went wrong, or ""."""
    try:
        logs.mkdir(parents=True, exist_ok=True)
        done = _control("", os.environ | environment, "-d")
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
    """Stops the daemon; kills it by process id if it does not obey."""
    pid_file = Path(environment[PIPES]) / f"{CONTROL}.pid"
    if _ask("quit", os.environ | environment) and not pid_file.exists():
        return
    with suppress(OSError, ValueError):
        pid = int(pid_file.read_text(encoding="utf-8"))
        until = time.monotonic() + PATIENCE
        while time.monotonic() < until:
            os.kill(pid, 0)  # raises ProcessLookupError if it has ended
            time.sleep(0.1)
        os.kill(pid, signal.SIGTERM)


def _ask(command: str, environment: Mapping[str, str]) -> bool:
    """Sends a command to the daemon of that environment. Returns True if it succeeded."""
    try:
        done = _control(f"{command}\n", environment)
    except (OSError, subprocess.TimeoutExpired):
        return False
    return done.returncode == 0 and "Cannot find" not in done.stdout + done.stderr


def _control(text: str, environment: Mapping[str, str], *options: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [CONTROL, *options],
        input=text,
        env=environment,
        capture_output=True,
        timeout=PATIENCE,
        start_new_session=True,  # Ctrl-C must only reach the launcher
        encoding="utf-8",
        errors="replace",
    )
