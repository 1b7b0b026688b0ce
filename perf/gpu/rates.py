"""Times training steps in interleaved rounds: the plain loop (perf/baseline.py), ours eager and ours as one CUDA graph,
in fp32 and bf16.

Also measures several runs that share one GPU.
"""

import statistics
import tempfile
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

from perf import baseline
from perf.cases import Case
from perf.gpu.concurrency import run_concurrently
from perf.gpu.items import Items, Measurement
from perf.steps import begin, interleaved, seconds_of, stepper

Step = Callable[[], None]
PLAIN = "plain fp32"
PREFETCHED = 2  # batches that each DataLoader worker prefetches


def items(measurement: Measurement) -> Items:
    sizes = measurement.sizes
    graphs = (False, True) if measurement.device.type == "cuda" else (False,)
    timed = {"head": Case("head", "", "contrastive", "rotation")}
    timed |= {f"student, {method}": Case("student", method) for method in sizes.rates_of}
    concurrent = {
        f"{runs} at once, {'graph' if graph else 'eager'}": partial(run_concurrently, runs, graph, measurement)
        for graph in graphs
        for runs in sizes.parallel_runs
    }
    return {name: partial(compare, case, measurement, graphs) for name, case in timed.items()} | concurrent


def compare(case: Case, measurement: Measurement, graphs: tuple[bool, ...]) -> dict[str, Any]:
    """Returns the milliseconds per step of every variant in each round, and their medians. An image counts once,
    independent of its number of views."""
    sizes, device = measurement.sizes, measurement.device
    with tempfile.TemporaryDirectory() as folder:
        cases = measurement.cases(Path(folder))
        steps: dict[str, Step] = {}
        if measurement.computes and (case.role == "head" or case.method == "sskd"):
            steps[PLAIN] = baseline.stepper(case.role, sizes.pair, sizes.batch, sizes.workers, measurement.root, device)
        for precision in ("fp32", "bf16"):
            for graph in graphs:
                run = begin(cases.spec(case, precision), cases.runs, measurement.execution("on" if graph else "off"))
                steps[f"{'graph' if graph else 'eager'} {precision}"] = stepper(run)
        for step in steps.values():
            for _ in range(sizes.warmup):
                step()

        def milliseconds(name: str) -> float:
            for _ in range(PREFETCHED * sizes.workers if name == PLAIN else 0):
                steps[name]()  # consumes batches that were prefetched during the other variants' rounds
            return 1000 * seconds_of(steps[name], sizes.steps, device)

        rounds = interleaved({name: partial(milliseconds, name) for name in steps}, sizes.rounds)
    variants: dict[str, dict[str, Any]] = {
        name: {
            "milliseconds": statistics.median(times),
            "turns": times,
            "images_per_second": 1000 * sizes.batch / statistics.median(times),
        }
        for name, times in rounds.items()
    }
    found: dict[str, Any] = {"batch": sizes.batch, "contestants": variants}
    fastest = max(variants, key=lambda name: variants[name]["images_per_second"])
    found["text"] = f"{fastest}: {variants[fastest]['milliseconds']:.2f} ms per step"
    if PLAIN in variants:
        plain = variants[PLAIN]["images_per_second"]
        for result in variants.values():
            result["times_plain"] = result["images_per_second"] / plain
        found["text"] += f", {variants[fastest]['times_plain']:.1f} times the plain loop's images/s"
    return found
