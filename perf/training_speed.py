"""Training speed of the suite and of the plain published loop on this machine: images/s and their ratio.

    make perf                                                     every pair and stage, about twenty minutes
    python -m perf.training_speed --pairs resnet56/resnet20 --rounds 3

The baseline (perf/baseline.py, float32) and the suite, in float32 and in the machine's fast precision, are measured in
interleaved rounds in separate processes, on the same images, batch 64. Reports the median of the rounds with minimum
and maximum, peak memory, and the fraction of a step's time within convolutions, forward and backward, by torch's
profiler. An image counts once, independent of its number of views.
"""

import argparse
import os
import resource
import statistics
import tempfile
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import torch
from torch.profiler import ProfilerActivity, profile

from perf import baseline
from perf.cases import Case, Cases, dataset_at
from perf.steps import begin, interleaved, seconds_of, stepper
from sskd.config.execution import Execution

PAIRS = ("resnet56/resnet20", "wrn_40_2/wrn_16_2", "vgg13/vgg8")
CASES = {"student": Case("student", "sskd"), "head": Case("head", "", "contrastive", "rotation")}
VARIANTS = ("baseline", "ours fp32", "ours auto")
BATCH = 64


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--pairs", default=",".join(PAIRS), help="teacher/student, separated by commas")
    parser.add_argument("--stages", default="student,head")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--steps", type=int, default=8, help="steps per round")
    parser.add_argument("--dataset-root", type=Path, default=Path("data"))
    options = parser.parse_args()
    os.environ["KINETO_LOG_LEVEL"] = "6"  # else torch's profiler prints when it starts and stops
    for pair in options.pairs.split(","):
        for stage in options.stages.split(","):
            print(compare(pair, stage, options), flush=True)


def compare(pair: str, stage: str, options: argparse.Namespace) -> str:
    """Measures all variants in interleaved rounds, and describes them in a line each."""

    def in_own_process(variant: str) -> dict[str, Any]:
        with ProcessPoolExecutor(1, get_context("spawn")) as process:
            return process.submit(time_round, pair, stage, variant, options.steps, options.dataset_root).result()

    rounds = interleaved({variant: partial(in_own_process, variant) for variant in VARIANTS}, options.rounds)
    rates = {name: [found["images_per_second"] for found in results] for name, results in rounds.items()}
    lines = [f"{pair}, {stage} stage, {dataset_at(options.dataset_root)}:"]
    for name, results in rounds.items():
        rate, lowest, highest = statistics.median(rates[name]), min(rates[name]), max(rates[name])
        ratio = rate / statistics.median(rates["baseline"])
        peak, inside = max(found["peak_mb"] for found in results), 100 * results[-1]["within_convolutions"]
        lines.append(
            f"  {name}: {rate:.0f} images/s ({lowest:.0f} to {highest:.0f}), {ratio:.2f} times the baseline, "
            f"peak {peak} MB, {inside:.0f} % within convolutions"
        )
    return "\n".join(lines)


def time_round(pair: str, stage: str, variant: str, steps: int, root: Path) -> dict[str, Any]:
    """Times a few steps of one variant in this process, after two warm-up steps."""
    with tempfile.TemporaryDirectory() as folder:
        if variant == "baseline":
            step = baseline.stepper(stage, pair, BATCH, torch.get_num_threads(), root, torch.device("cpu"))
        else:
            cases, execution = Cases(Path(folder), root, pair, BATCH), Execution(dataset_root=str(root), device="cpu")
            step = stepper(begin(cases.spec(CASES[stage], variant.removeprefix("ours ")), cases.runs, execution))
        for _ in range(2):
            step()
        rate = BATCH / seconds_of(step, steps)
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
        inside = convolutions_share(step)
    return {"images_per_second": round(rate, 1), "peak_mb": round(peak), "within_convolutions": inside}


def convolutions_share(step: Callable[[], None], steps: int = 4) -> float:
    """Returns the fraction of a step's time within convolutions, forward and backward, in any library."""
    with profile(activities=[ProfilerActivity.CPU]) as profiler:
        seconds = steps * seconds_of(step, steps)
    inside = sum(event.self_cpu_time_total for event in profiler.key_averages() if "conv" in event.key.lower())
    return round(inside / 1e6 / seconds, 3)


if __name__ == "__main__":
    main()
