"""Slots on this machine: a process per run, with its own GPUs, or a number of threads without GPUs.

Processes are forked from one that has imported their dependencies (multiprocessing's "forkserver"), so short runs start
quickly. Processes share no state, so a crash of one does not affect the others.
"""

import multiprocessing as mp
import os
import signal
import sys
from contextlib import suppress
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import torch
import yaml

from benchmarks.dispatch.cluster import ClusterSpec
from benchmarks.dispatch.job import Failure, Job
from benchmarks.dispatch.retries import TERMINATED
from benchmarks.dispatch.same_code import Code, start_fork_server, this_code
from benchmarks.dispatch.scheduler import Slot, schedule
from benchmarks.dispatch.worker import execute, prepare
from benchmarks.planning.cost import SEQUENTIAL, STARTING_A_JOB, Concurrency
from benchmarks.planning.plan import Plan
from sskd.console.progress import Progress
from sskd.console.signals import StopSignal, stop_signal
from sskd.errors import UserError
from sskd.mps import VISIBLE, Sharing, sharing
from sskd.runs.spec import RunSpec, parse_spec, spec_yaml
from sskd.runtime.cores import allowed_cores, usable_cores, usable_memory
from sskd.runtime.device import with_threads
from sskd.training.run import Interrupted

GB = 10**9
FORGOTTEN = 255  # multiprocessing's exit status for processes of a dead forkserver


class RunResources(NamedTuple):
    """Resources of one run."""

    threads: int
    gpus: tuple[str, ...] = ()
    cores: tuple[int, ...] = ()  # cores that the process is pinned to; (): not pinned


class Machine(NamedTuple):
    """Resources that this process may use."""

    cores: list[int]  # by affinity
    usable: int  # number of cores that can be used at the same time (quota)
    memory: int | None = None  # bytes; None: unknown
    gpus: tuple[str, ...] = ()


def this_machine() -> Machine:
    visible = os.environ.get(VISIBLE)
    gpus = visible.split(",") if visible else [str(number) for number in range(torch.cuda.device_count())]
    return Machine(allowed_cores(), usable_cores(), usable_memory(), tuple(gpus))


def divide_machine(cluster: ClusterSpec, machine: Machine) -> list[RunResources]:
    """Divides the machine among parallel runs: as many as the cluster's file says, else one per GPU, else limited by
    cores and memory."""
    cores, gpus = machine.cores, machine.gpus
    each = cluster.gpus_per_run if cluster.gpus_per_run is not None else min(1, len(gpus))
    width = min(cluster.cpus_per_run or 1, machine.usable)
    if each:
        sets = [tuple(gpus[i : i + each]) for i in range(0, len(gpus) - each + 1, each)]
        gpu_sets = [gpu_set for _ in range(cluster.runs_per_gpu) for gpu_set in sets][: cluster.runs_at_once]
        if cluster.cpus_per_run is None:
            width = max(1, machine.usable // max(1, len(gpu_sets)))
    else:
        gpu_sets = [()] * (cluster.runs_at_once or _runs_that_fit(cluster, machine, width))
    pins = width > 1 and machine.usable == len(cores) and len(gpu_sets) * width <= len(cores)
    return [
        RunResources(width, gpu_set, tuple(cores[i * width : (i + 1) * width]) if pins else ())
        for i, gpu_set in enumerate(gpu_sets)
    ]


def _runs_that_fit(cluster: ClusterSpec, machine: Machine, width: int) -> int:
    by_cores = machine.usable // width
    by_memory = by_cores if machine.memory is None else int(machine.memory / (cluster.memory_gb_per_run * GB))
    return max(1, min(by_cores, by_memory))


def concurrency_of(cluster: ClusterSpec) -> Concurrency:
    """Returns how many runs the cluster executes in parallel, and how many of them share the resources of one."""
    if cluster.kind == "slurm":
        given = cluster.parameters.get("gpus_per_node")
        gpus = int(str(given).rpartition(":")[2]) if given else cluster.gpus_per_run or 0
        if cluster.pools is None:
            return Concurrency(cluster.array_width, 1, gpus > 0, STARTING_A_JOB)
        each = max(1, gpus // (cluster.gpus_per_run or 1))
        return Concurrency(cluster.pools * each * cluster.runs_per_gpu, cluster.runs_per_gpu, gpus > 0)
    divided = [] if cluster.kind == "inline" else divide_machine(cluster, this_machine())
    if not divided:  # also if the plan is made on a machine without the GPUs
        return SEQUENTIAL
    alone = len({resources.gpus for resources in divided})  # number of sets of GPUs; 1 without GPUs
    return Concurrency(len(divided), len(divided) / alone)


def execute_here(job: Job, progress: Progress) -> dict[str, Failure]:
    """Executes the job on this machine. Returns the failures by run id. Raises UserError if the resources of a run are
    not available."""
    divided = [RunResources(0)] if job.cluster.kind == "inline" else divide_machine(job.cluster, this_machine())
    if not divided:
        raise UserError(f"cluster '{job.cluster.name}': gpus_per_run exceeds the number of GPUs of this machine")
    if len(divided) == 1 and not divided[0].gpus and job.cluster.runs_at_once is None:
        return schedule(job, progress, [InlineSlot(job, progress)])
    context = mp.get_context("forkserver")
    context.set_forkserver_preload(["benchmarks.commands.main", "benchmarks.dispatch.local", "torchvision"])
    with sharing([resources.gpus for resources in divided], job.jobs_folder / "mps", progress.log) as shared:
        return schedule(job, progress, [ProcessSlot(job, resources, context, shared) for resources in divided])


class InlineSlot(Slot):
    """A slot that trains in this process: ``start`` returns when the run has ended."""

    def __init__(self, job: Job, progress: Progress) -> None:
        self._job, self._progress = job, progress

    def start(self, spec: RunSpec, stop: StopSignal) -> None:
        """Trains the run. If it is interrupted, this is logged, and the run has neither result nor failure."""
        self.failure, progress = None, self._progress
        try:
            self.failure = execute(spec, self._job, stop, show=partial(progress.show, spec.id), log=progress.log)
        except Interrupted as reason:
            progress.log(str(reason))
        finally:
            progress.hide(spec.id)


class ProcessSlot(Slot):
    """A slot that trains in a process of its own."""

    def __init__(self, job: Job, resources: RunResources, context: Any, shared: Sharing) -> None:
        self._job, self._context = job, context
        self._resources, self._environment = resources, dict(shared.environment)
        if resources.gpus:
            self._environment[VISIBLE] = ",".join(shared.visible(resources.gpus))
        self._process: Any = None
        self._answer: Any = None  # pipe on which the process sends its failure

    def start(self, spec: RunSpec, stop: StopSignal) -> None:
        resources, execution, self.failure = self._resources, self._job.execution, None
        if execution.threads is None:
            execution = with_threads(execution, resources.threads)
        if execution.workers is None:
            execution = execution.model_copy(update={"workers": min(16, resources.threads)})
        job = replace(self._job, plan=Plan([]), execution=execution)
        surroundings = {**os.environ, **self._environment}, Path.cwd()  # current values; the forkserver's are older
        self._process = None  # until the process exists, an interrupt has nothing to end
        self._answer, says = self._context.Pipe(duplex=False)
        task = spec_yaml(spec), job, resources, this_code(), *surroundings, says
        process = self._context.Process(target=worker_main, args=task, name=spec.id)
        with says:  # closed here, so that the pipe ends with the process
            start_fork_server()
            with suppress(EOFError, ConnectionError):  # the forkserver was killed: the run is lost and retried
                process.start()
                self._process = process

    def ended(self) -> bool:
        if self._process is None or self._process.exitcode is None:
            return self._process is None
        if self._process.exitcode == FORGOTTEN and not self._answer.closed and not self._answer.poll():
            return False  # the forkserver was killed, but the run's process continues
        if not self._answer.closed:
            with suppress(EOFError), self._answer as answer:  # EOF: it ended without a message
                if answer.poll():  # otherwise a child process still holds the pipe
                    self.failure = Failure(*answer.recv())
        return True

    def terminate(self) -> None:
        self._signal(signal.SIGTERM)

    def kill(self) -> None:
        self._signal(signal.SIGKILL)

    def _signal(self, number: signal.Signals) -> None:
        """Sends the signal with os.kill: the process object's own methods do nothing if the forkserver has died."""
        if not self.ended():
            with suppress(ProcessLookupError):
                os.kill(self._process.pid, number)


def worker_main(
    text: str, job: Job, resources: RunResources, code: Code, environment: dict[str, str], folder: Path, says: Any
) -> None:
    """Main function of a run's process. Exit status: 1 if the run failed, TERMINATED if it was told to end.

    text: the run's spec, as YAML. job: without its plan. code: code of the suite. says: pipe for the failure.
    """
    for number in (signal.SIGINT, signal.SIGHUP):  # these signals reach all processes; the parent handles them
        signal.signal(number, signal.SIG_IGN)
    with stop_signal(signal.SIGTERM) as stop:
        _print_to(job.jobs_folder / "local.log")
        os.environ.clear()
        os.environ.update(environment)
        os.chdir(folder)
        if resources.cores and hasattr(os, "sched_setaffinity"):
            os.sched_setaffinity(0, resources.cores)
        try:
            prepare(code, job.plugins)
            spec = parse_spec(yaml.safe_load(text), "a run of this suite")
        except UserError as error:
            says.send(tuple(Failure(str(error), "input")))
            raise SystemExit(1) from None
        try:
            failure = execute(spec, job, stop)
        except Interrupted:
            raise SystemExit(TERMINATED) from None
    if failure:
        says.send(tuple(failure))
        raise SystemExit(1)


def _print_to(log: Path) -> None:
    """Redirects this process's output, also that of libraries, to a file, because the terminal belongs to the
    display."""
    with suppress(OSError):  # for example a full disk
        log.parent.mkdir(parents=True, exist_ok=True)
        file = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
        for stream in (sys.stdout, sys.stderr):
            stream.flush()
            os.dup2(file, stream.fileno())
        os.close(file)
