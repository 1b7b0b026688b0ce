"""Measures several processes that train on one GPU in parallel, with MPS if available: total images/s."""

import os
import tempfile
import time
from collections.abc import Mapping
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from multiprocessing.synchronize import Barrier
from pathlib import Path
from threading import BrokenBarrierError
from typing import Any

import torch

from perf.cases import Case
from perf.gpu.items import Measurement
from perf.steps import begin, stepper
from sskd.mps import VISIBLE, sharing

_all_ready: Barrier  # of the processes that train, set in each of them


def run_concurrently(runs: int, graph: bool, measurement: Measurement) -> dict[str, Any]:
    """Runs steps of SSKD's student in bf16 in ``runs`` processes, for some seconds after all are ready. Raises the
    error of the first process that fails."""
    said: list[str] = []
    device, context = measurement.device, get_context("spawn")
    number, visible = device.index or 0, os.environ.get(VISIBLE, "")
    gpus = [(visible.split(",")[number] if visible else str(number),)] * runs if device.type == "cuda" else []
    # each process sees one GPU; the time limit is a closure, which other processes cannot get
    own = measurement._replace(device=torch.device(device.type), time_is_up=bool)
    with sharing(gpus, measurement.out / "mps", said.append) as shared:
        environment = {**shared.environment, **({VISIBLE: shared.visible(gpus[0])[0]} if gpus else {})}
        started = (environment, context.Barrier(runs))
        with ProcessPoolExecutor(runs, context, initializer=_start, initargs=started) as pool:
            trained = [pool.submit(train_for_some_seconds, graph, own) for _ in range(runs)]
    failed = [error for future in trained if (error := future.exception())]
    if failed:  # the others only waited in vain
        raise min(failed, key=lambda error: isinstance(error, BrokenBarrierError))
    results = [future.result() for future in trained]
    rates = [result["images_per_second"] for result in results]
    return {
        "runs": runs,
        "images_per_second": sum(rates),
        "each": rates,
        "peak_mb": max(result["peak_mb"] for result in results),
        "mps": bool(shared.environment),
        "said": said,
        "text": f"{sum(rates):.0f} images/s in total{', with MPS' if shared.environment else ''}",
    }


def _start(environment: Mapping[str, str], all_ready: Barrier) -> None:
    """Prepares a process, which has not used its GPU yet."""
    global _all_ready
    os.environ.update(environment)
    _all_ready = all_ready


def train_for_some_seconds(graph: bool, measurement: Measurement) -> dict[str, Any]:
    """Trains in this process, which is one of several, and returns the images/s."""
    sizes, device = measurement.sizes, measurement.device
    try:
        with tempfile.TemporaryDirectory() as folder:
            cases, execution = measurement.cases(Path(folder)), measurement.execution("on" if graph else "off")
            step = stepper(begin(cases.spec(Case("student", "sskd"), "bf16"), cases.runs, execution))
            for _ in range(sizes.warmup):
                step()
            _wait(device)
            _all_ready.wait()
            started, steps = time.perf_counter(), 0
            while time.perf_counter() < started + sizes.parallel_seconds:
                for _ in range(sizes.steps):  # queues several steps, so that the host does not synchronise after each
                    step()
                _wait(device)
                steps += sizes.steps
            seconds = time.perf_counter() - started
    except BaseException:
        _all_ready.abort()
        raise
    peak = torch.cuda.max_memory_reserved(device) >> 20 if device.type == "cuda" else 0
    return {"images_per_second": steps * sizes.batch / seconds, "peak_mb": peak}


def _wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)
