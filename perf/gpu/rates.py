"""How long a step takes: the plain loop, ours eager and ours as one graph, in float32 and bfloat16, taking turns in one
process; and several runs on one GPU at once."""

import os
import statistics
import tempfile
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

from perf.gpu.at_once import at_once
from perf.gpu.cases import Case, Cases
from perf.gpu.items import Items, Measurement
from perf.gpu.machine import seconds_of
from perf.gpu.plain import plain_stepper
from perf.gpu.trainee import begin, stepper

Step = Callable[[], None]


def items(measurement: Measurement) -> Items:
    sizes = measurement.sizes
    graphs = (False, True) if measurement.device.type == "cuda" else (False,)
    timed = {"head": Case("head", "", "contrastive", "rotation")}
    timed |= {f"student, {method}": Case("student", method) for method in sizes.rates_of}
    at_onces = {
        f"{runs} at once, {'graph' if graph else 'eager'}": partial(at_once, runs, graph, measurement)
        for graph in graphs
        for runs in sizes.at_once
    }
    return {name: partial(compare, case, measurement, graphs) for name, case in timed.items()} | at_onces


def compare(case: Case, measurement: Measurement, graphs: tuple[bool, ...]) -> dict[str, Any]:
    """Milliseconds a step of every contestant, turn by turn, and their medians. An image counts once, whatever its
    number of views."""
    sizes, device = measurement.sizes, measurement.device
    with tempfile.TemporaryDirectory() as folder:
        cases = Cases(measurement, Path(folder))
        steps: dict[str, Step] = {}
        if measurement.computes and (case.role == "head" or case.method == "sskd"):
            workers = min(8, len(os.sched_getaffinity(0)))
            steps["plain fp32"] = plain_stepper(case.role, sizes.pair, sizes.batch, workers, measurement.root, device)
        for precision in ("fp32", "bf16"):
            for graph in graphs:
                run = begin(
                    cases.spec(case, precision, few=False), cases.runs, measurement.execution("on" if graph else "off")
                )
                steps[f"{'graph' if graph else 'eager'} {precision}"] = stepper(run)
        turns: dict[str, list[float]] = {name: [] for name in steps}
        for step in steps.values():
            for _ in range(sizes.warmup):
                step()
        for _ in range(sizes.rounds):
            for name, step in steps.items():
                turns[name].append(1000 * seconds_of(step, device, sizes.steps))
    contestants: dict[str, dict[str, Any]] = {
        name: {
            "milliseconds": statistics.median(times),
            "turns": times,
            "images_per_second": 1000 * sizes.batch / statistics.median(times),
        }
        for name, times in turns.items()
    }
    found: dict[str, Any] = {"batch": sizes.batch, "contestants": contestants}
    fastest = max(contestants, key=lambda name: contestants[name]["images_per_second"])
    found["text"] = f"{fastest}: {contestants[fastest]['milliseconds']:.2f} ms a step"
    if "plain fp32" in contestants:
        plain = contestants["plain fp32"]["images_per_second"]
        for result in contestants.values():
            result["times_plain"] = result["images_per_second"] / plain
        found["text"] += f", {contestants[fastest]['times_plain']:.1f} times the plain loop's images/s"
    return found
