"""Checks for every stage of every case whether a step synchronises with the device, and whether it can be captured as a
CUDA graph."""

import traceback
import warnings
from functools import partial
from pathlib import Path
from typing import Any

import torch

from perf.cases import Case, Cases, all_cases
from perf.gpu.items import Items, Measurement
from perf.steps import full_batches, stages, stepper
from sskd.training.checkpoint import RunState
from sskd.training.graphs import WARM_UP
from sskd.training.step import train_step, why_eager


def items(measurement: Measurement) -> Items:
    cases = measurement.cases(measurement.out / "untrained")
    return {case.name: partial(try_case, case, cases, measurement) for case in all_cases()}


def try_case(case: Case, cases: Cases, measurement: Measurement) -> dict[str, Any]:
    """Returns for every stage the line of the first host-device sync, and why a step cannot be captured as a CUDA
    graph; each is "" if there is none, None on the CPU."""
    spec = cases.spec(case, measurement.sizes.precision, few=True)
    found_of: dict[str, Any] = {}
    for run in stages(spec, cases.runs, measurement.execution()):
        batches = full_batches(run)
        for _ in range(2):
            train_step(run, next(batches))
        sync = find_sync(lambda run=run, batches=batches: train_step(run, next(batches)), measurement.device)
        found_of[run.stage.name] = {"waits": sync, "captured": why_no_graph(run) if sync is not None else None}
    bad = [f"{name} synchronises: {found['waits']}" for name, found in found_of.items() if found["waits"]]
    bad += [f"{name} is not captured: {found['captured']}" for name, found in found_of.items() if found["captured"]]
    good = "no syncs, one graph" if measurement.device.type == "cuda" else "runs"
    return {"stages": found_of, "good": not bad, "text": "; ".join(bad) or good}


def why_no_graph(run: RunState) -> str:
    """Executes steps until one is captured as a CUDA graph, and replays the graph twice. Returns why no step was
    captured, or ""."""
    step = stepper(run)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the warning about eager execution, which the report repeats
        for _ in range(WARM_UP + 2):
            step()
    torch.cuda.synchronize(run.setup.device)
    return run.graph.fallback_reason if run.graph else why_eager(run)


def find_sync(action: Any, device: torch.device) -> str | None:
    """Returns the line of the first operation that synchronises host and device, as torch reports it; "" if there is
    none, None on the CPU."""
    if device.type != "cuda":
        action()
        return None
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the warning that the mode is a prototype
        torch.cuda.set_sync_debug_mode("error")
    try:
        action()
    except RuntimeError as error:
        if "synchronizing" not in str(error):
            raise
        frames = [f for f in traceback.extract_tb(error.__traceback__) if "-packages" not in f.filename]
        return f"{Path(frames[-1].filename).name}:{frames[-1].lineno}"
    finally:
        torch.cuda.set_sync_debug_mode("default")
    return ""
