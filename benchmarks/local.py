"""The local cluster: processes on this machine through submitit, each pinned to its GPUs or CPU cores; a queue."""

import dataclasses
import os
import signal
import time
from contextlib import suppress
from typing import NamedTuple

import torch
from submitit import Job, LocalExecutor

from benchmarks.clusters import ClusterSpec, minutes
from benchmarks.launcher import Work, cancelled_since, needs_failed, tell_who
from benchmarks.locks import Owner, process_birth, process_is_alive
from benchmarks.retries import retry
from benchmarks.slurm import Liveness
from benchmarks.worker import Failure, RunJob
from sskd.config import RunSpec, spec_yaml
from sskd.folder import read_json
from sskd.progress import Progress

NO_LIMIT = 60 * 24 * 365  # minutes; submitit's own default is two


class Slot(NamedTuple):
    """A place for one run: the cores and GPUs it has for itself."""

    cores: tuple[int, ...]
    gpus: tuple[str, ...]


class Active(NamedTuple):
    """A run under way."""

    spec: RunSpec
    owner: Owner
    job: Job[str]
    slot: Slot


def make_slots(cluster: ClusterSpec, cores: list[int], gpus: list[str]) -> list[Slot]:
    """Places for as many runs at once as the cluster's file says, or as there are GPUs (else cores) for."""
    each = cluster.gpus_per_run if cluster.gpus_per_run is not None else min(1, len(gpus))
    width = min(cluster.cpus_per_run or 1, len(cores))
    if each:
        sets = [tuple(gpus[i : i + each]) for i in range(0, len(gpus) - each + 1, each)]
        places = [gpu_set for _ in range(cluster.runs_per_gpu) for gpu_set in sets]
    else:
        places = [()] * (cluster.runs_at_once or max(1, len(cores) // width))
    places = places[: cluster.runs_at_once]
    if each and cluster.cpus_per_run is None:
        width = max(1, len(cores) // max(1, len(places)))
    return [
        Slot(tuple(sorted({cores[(i * width + k) % len(cores)] for k in range(width)})), gpu_set)
        for i, gpu_set in enumerate(places)
    ]


def this_machine() -> tuple[list[int], list[str]]:
    """The CPU cores and GPUs that this process may use."""
    cores = sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else list(range(os.cpu_count() or 1))
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    gpus = visible.split(",") if visible else [str(i) for i in range(torch.cuda.device_count())]
    return cores, gpus


def run_local(work: Work, progress: Progress) -> dict[str, Failure]:
    """At most as many runs at once as there are slots; the rest waits. Failures by run id."""
    limit = minutes(work.cluster.parameters["time"]) if "time" in work.cluster.parameters else NO_LIMIT
    free = make_slots(work.cluster, *this_machine())
    started = time.time()
    failures = {spec.id: failure for spec in work.plan.runs if (failure := work.given_up(spec))}
    todo = {spec.id: spec for spec in work.plan.runs if not work.finished(spec)}
    active: dict[str, Active] = {}
    told: set[str] = set()
    begun: set[str] = set()
    try:
        while todo:
            before = len(todo), len(active)
            for run in [run for run in active.values() if _has_ended(work, run)]:
                if cancelled_since(work, started):
                    raise KeyboardInterrupt
                free.append(active.pop(run.spec.id).slot)
                _settle(work, run, todo, failures, progress)
            for spec in list(todo.values()):
                if spec.id in active or any(n.id in todo and n.id not in failures for n in spec.needs):
                    continue
                failure = failures.get(spec.id) or needs_failed(spec, failures)
                if failure:
                    failures[spec.id] = failure
                    progress.say(f"{spec.id} failed: {failure.message}")
                elif free:
                    owner = Owner()
                    if work.take(spec, owner, Liveness(work.runs)):
                        if spec.id not in begun:
                            begun.add(spec.id)
                            work.start_afresh(spec)
                        active[spec.id] = _start(work, spec, owner, free.pop(0), limit)
                        continue
                    if not work.finished(spec):
                        tell_who(work, spec, progress, told)
                        continue
                else:
                    continue
                del todo[spec.id]
            if cancelled_since(work, started):
                raise KeyboardInterrupt
            if (len(todo), len(active)) == before:
                time.sleep(work.cluster.poll_seconds)
    finally:
        for run in active.values():
            _terminate(int(run.job.job_id))
    return failures


def _start(work: Work, spec: RunSpec, owner: Owner, slot: Slot, limit: int) -> Active:
    cluster = work.cluster
    executor = LocalExecutor(work.jobs, max_num_timeout=cluster.retries.timeout)
    executor.update_parameters(
        timeout_min=limit,
        signal_delay_s=cluster.signal_seconds,
        setup=list(cluster.parameters.get("setup", [])),
    )
    job = executor.submit(
        RunJob(spec_yaml(spec), work.runs, work.execution, owner.token, work.plugins, slot.cores, slot.gpus)
    )
    known = work.claims.owner(spec.id)
    if known and known.pid == os.getpid():  # else the worker was faster, and has put its own name there
        controller = int(job.job_id)
        work.claims.update(spec.id, dataclasses.replace(owner, pid=controller, born=process_birth(controller)))
    return Active(spec, owner, job, slot)


def _has_ended(work: Work, run: Active) -> bool:
    """Whether no process of the run is left: submitit's controller may be gone while the worker lives."""
    if not run.job.done():
        return False
    owner = work.claims.owner(run.spec.id)
    return owner is None or owner.token != run.owner.token or not process_is_alive(owner, time.time)


def _settle(
    work: Work, run: Active, todo: dict[str, RunSpec], failures: dict[str, Failure], progress: Progress
) -> None:
    """After a run's processes have ended: finished, to be started again, or failed."""
    spec = run.spec
    if work.finished(spec):
        del todo[spec.id]
        progress.finished(spec, read_json(work.folder(spec).result))
        return
    owner = work.claims.owner(spec.id)
    if owner is None or owner.token != run.owner.token:
        return  # another has taken it over
    try:
        line = retry(work.runs, spec.id, work.cluster.retries.model_dump(), "its process was killed")
        if line:
            progress.say(line)
        else:
            data = read_json(work.folder(spec).failure)
            failures[spec.id] = Failure(data["message"], data.get("kind") == "input")
    except OSError as error:  # a full disk: not the place to count attempts
        failures[spec.id] = Failure(f"ended without a result, and its attempts cannot be noted: {error.strerror}")
    work.claims.release(spec.id, owner.token)


def _terminate(pid: int) -> None:
    with suppress(ProcessLookupError):
        os.kill(pid, signal.SIGTERM)
