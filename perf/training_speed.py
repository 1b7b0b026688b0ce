"""Training speed of the suite and of the plain published loop on this machine: images/s, ratio, and time per part.

    make perf                                                     every pair and stage, about twenty minutes
    python -m perf.training_speed --pairs resnet56/resnet20 --rounds 3

The baseline (perf/baseline.py, float32) and the suite, in float32 and in the machine's fast precision, are measured in
interleaved rounds in separate processes, on the same images, batch 64. Reports the median of the rounds with minimum
and maximum, peak memory, and the fraction of a step's time per part; time within convolutions, forward and backward, is
from torch's profiler. An image counts once, independent of its number of views.
"""

import argparse
import json
import resource
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch.profiler import ProfilerActivity, profile

from perf import baseline
from perf.stages import dataset_at, endless, make_stage, small_images, stepper
from sskd.data.batch import Batch
from sskd.distillation.forward import TeacherForward
from sskd.networks import Features, Network, build_network
from sskd.runtime.device import autocast
from sskd.training.setup import Setup
from sskd.training.tasks.stage import Stage

PAIRS = ("resnet56/resnet20", "wrn_40_2/wrn_16_2", "vgg13/vgg8")
OURS = ("ours fp32", "ours auto")
VARIANTS = ("baseline", *OURS)
BATCH = 64


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--pairs", default=",".join(PAIRS), help="teacher/student, separated by commas")
    parser.add_argument("--stages", default="student,head")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--steps", type=int, default=8, help="steps per round")
    parser.add_argument("--dataset-root", type=Path, default=Path("data"))
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--round", nargs=3, metavar=("PAIR", "STAGE", "VARIANT"), help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.round:
        pair, stage, variant = options.round
        print(json.dumps(time_round(pair, stage, variant, options.steps, options.dataset_root)))
        return
    rows = []
    for pair in options.pairs.split(","):
        for stage in options.stages.split(","):
            rows.append(compare(pair, stage, options))
            print(json.dumps(rows[-1]) if options.json else _text(rows[-1]), flush=True)


def compare(pair: str, stage: str, options: argparse.Namespace) -> dict[str, Any]:
    """Measures all variants in interleaved rounds."""
    rounds: dict[str, list[dict[str, Any]]] = {name: [] for name in VARIANTS}
    for _ in range(options.rounds):
        for name in VARIANTS:
            command = [sys.executable, "-m", "perf.training_speed", "--round", pair, stage, name]
            command += ["--steps", str(options.steps), "--dataset-root", str(options.dataset_root)]
            done = subprocess.run(
                command, capture_output=True, text=True, check=True, encoding="utf-8", errors="replace"
            )
            rounds[name].append(json.loads(done.stdout.splitlines()[-1]))
    row: dict[str, Any] = {"pair": pair, "stage": stage, "dataset": dataset_at(options.dataset_root)}
    for name, results in rounds.items():
        rates = [result["images_per_second"] for result in results]
        row[name] = {
            "images_per_second": statistics.median(rates),
            "lowest": min(rates),
            "highest": max(rates),
            "peak_mb": max(result["peak_mb"] for result in results),
            "shares": results[-1].get("shares"),
        }
    for name in OURS:
        row[name]["ratio"] = row[name]["images_per_second"] / row["baseline"]["images_per_second"]
    return row


def time_round(pair: str, stage: str, variant: str, steps: int, root: Path) -> dict[str, Any]:
    """Times a few steps of one variant in this process, after two warm-up steps."""
    ours = None
    if variant == "baseline":
        step = baseline_stepper(pair, stage, root)
    else:
        ours = make_stage(pair, "sskd", variant.removeprefix("ours "), root, stage)
        step = stepper(*ours)
    step()
    step()
    started = time.perf_counter()
    for _ in range(steps):
        step()
    rate = steps * BATCH / (time.perf_counter() - started)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    shares = None if ours is None else time_shares(*ours) | {"within convolutions": convolutions_share(step)}
    return {"images_per_second": round(rate, 1), "peak_mb": round(peak), "shares": shares}


def convolutions_share(step: Callable[[], None], steps: int = 4) -> float:
    """Returns the fraction of a step's time within convolutions, forward and backward, in any library."""
    with profile(activities=[ProfilerActivity.CPU]) as profiler:
        started = time.perf_counter()
        for _ in range(steps):
            step()
        seconds = time.perf_counter() - started
    inside = sum(event.self_cpu_time_total for event in profiler.key_averages() if "conv" in event.key.lower())
    return round(inside / 1e6 / seconds, 3)


def baseline_stepper(pair: str, stage: str, root: Path) -> Callable[[], None]:
    data = small_images(root)
    images = data.train_images.permute(0, 2, 3, 1).contiguous().numpy()
    teacher_name, student_name = pair.split("/")
    teacher = build_network(teacher_name, data.num_classes).eval()
    student = build_network(student_name, data.num_classes)
    teacher_head, student_head = baseline.head(teacher_name), baseline.head(student_name)
    if stage == "head":
        action = baseline.head_step(teacher, teacher_head, _sgd(teacher_head.parameters()))
    else:
        learned = [*student.parameters(), *student_head.parameters()]
        action = baseline.student_step(student, teacher, student_head, teacher_head, _sgd(learned))
    batches = iter(baseline.loader(images, data.train_labels.numpy(), BATCH, torch.get_num_threads()))
    return lambda: action(*next(batches))


def time_shares(setup: Setup, stage: Stage, rounds: int = 4) -> dict[str, float]:
    """Returns fractions of a step's time: making the batch, the teacher's pass, the losses (forward, and backward to
    the features), and the rest, which is the student's. In the head stage losses and head are one part."""
    assert setup.spec.teacher is not None
    network = build_network(setup.spec.teacher.network, setup.data.num_classes).eval()
    teacher = TeacherForward(setup.to_device(network), frozenset({"logits", "pooled"}), setup.passes)
    elapsed = dict.fromkeys(("data", "teacher", "loss", "whole"), 0.0)
    student, method = stage.trained if setup.spec.role == "student" else (None, None)
    batches = endless(setup, stage)

    def learn(batch: Batch) -> None:
        stage.loss(batch)[0].backward()

    def distil(batch: Batch, of_teacher: Features) -> None:
        assert isinstance(student, Network)
        assert method is not None
        with torch.no_grad(), autocast(setup.device, setup.precision):
            found = student.features(batch.images)
        of_student = Features(found.logits.float().requires_grad_(), (), found.pooled.float().requires_grad_(), ())
        timed("loss", lambda: method(of_student, of_teacher, batch)[0].backward())

    def timed(part: str, action: Callable[[], Any]) -> Any:
        started = time.perf_counter()
        result = action()
        elapsed[part] += time.perf_counter() - started
        return result

    for number in range(rounds + 1):
        if number == 1:  # the first round is a warm-up
            elapsed = dict.fromkeys(elapsed, 0.0)
        batch = timed("data", partial(next, batches))
        of_teacher = timed("teacher", partial(teacher, batch.images))
        if method is not None:
            distil(batch, of_teacher)
        timed("whole", partial(learn, batch))
    total = elapsed["data"] + elapsed["whole"]
    rest = max(elapsed["whole"] - elapsed["teacher"] - elapsed["loss"], 0.0)
    parts = {"data": elapsed["data"], "teacher": elapsed["teacher"]}
    parts |= {"student": rest, "loss": elapsed["loss"]} if method is not None else {"head, loss": rest}
    return {name: round(seconds / total, 3) for name, seconds in parts.items()}


def _sgd(parameters: Any) -> torch.optim.Optimizer:
    return torch.optim.SGD(parameters, lr=0.01, momentum=0.9, weight_decay=5e-4)


def _text(row: dict[str, Any]) -> str:
    lines = [f"{row['pair']}, {row['stage']} stage, {row['dataset']}:"]
    for name in VARIANTS:
        found = row[name]
        line = f"  {name}: {found['images_per_second']:.0f} images/s ({found['lowest']:.0f} to {found['highest']:.0f})"
        if name in OURS:
            line += f", {found['ratio']:.2f} times the baseline"
        line += f", peak {found['peak_mb']} MB"
        if found["shares"]:
            line += f"; {', '.join(f'{part} {100 * share:.0f} %' for part, share in found['shares'].items())}"
        lines.append(line)
    return "\n".join(lines)


if __name__ == "__main__":
    main()
