"""Ours against the plain published loop, in one run on this machine: images/s, ratio, and where the time goes.

    make perf                                                     every pair and stage, about twenty minutes
    python -m perf.training_speed --pairs resnet56/resnet20 --rounds 3

Baseline (perf/baseline.py, float32) and ours, in float32 and in the machine's fast precision, take turns in processes
of their own, on the same images, batch 64. Reported: the median of the turns with the lowest and highest, peak memory,
and the share of the rate that the step's convolutions alone would have here (perf/convolution_bound.py), which no
training loop can exceed. An image counts once, however many views are made of it.
"""

import argparse
import json
import resource
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from perf import baseline
from perf.convolution_bound import bound_of
from perf.stages import CLASSES, dataset_at, endless, make_stage, stepper
from sskd.config.recipe import DatasetSpec
from sskd.data.datasets.registry import load_dataset
from sskd.device import autocast, resolve_precision
from sskd.networks import Features, build_network
from sskd.training.forward import TeacherForward
from sskd.training.setup import Setup
from sskd.training.stage import Stage

PAIRS = ("resnet56/resnet20", "wrn_40_2/wrn_16_2", "vgg13/vgg8")
CONTESTANTS = ("baseline", "ours fp32", "ours auto")
BATCH = 64


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--pairs", default=",".join(PAIRS), help="teacher/student, by comma")
    parser.add_argument("--stages", default="student,head")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--steps", type=int, default=8, help="steps in a turn")
    parser.add_argument("--dataset-root", type=Path, default=Path("data"))
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--turn", nargs=3, metavar=("PAIR", "STAGE", "CONTESTANT"), help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.turn:
        print(json.dumps(turn(*options.turn, options.steps, options.dataset_root)))
        return
    rows = []
    for pair in options.pairs.split(","):
        for stage in options.stages.split(","):
            rows.append(compare(pair, stage, options))
            print(json.dumps(rows[-1]) if options.json else _text(rows[-1]), flush=True)


def compare(pair: str, stage: str, options: argparse.Namespace) -> dict[str, Any]:
    """All contestants' turns, interleaved."""
    turns: dict[str, list[dict[str, Any]]] = {name: [] for name in CONTESTANTS}
    for _ in range(options.rounds):
        for name in CONTESTANTS:
            command = [sys.executable, "-m", "perf.training_speed", "--turn", pair, stage, name]
            command += ["--steps", str(options.steps), "--dataset-root", str(options.dataset_root)]
            done = subprocess.run(command, capture_output=True, text=True, check=True)
            turns[name].append(json.loads(done.stdout.splitlines()[-1]))
    row: dict[str, Any] = {"pair": pair, "stage": stage, "dataset": dataset_at(options.dataset_root)}
    for name, results in turns.items():
        rates = [result["images_per_second"] for result in results]
        row[name] = {
            "images_per_second": statistics.median(rates),
            "lowest": min(rates),
            "highest": max(rates),
            "peak_mb": max(result["peak_mb"] for result in results),
            "shares": results[-1].get("shares"),
        }
    teacher, student = pair.split("/")
    for name in CONTESTANTS[1:]:
        rate = row[name]["images_per_second"]
        row[name]["ratio"] = rate / row["baseline"]["images_per_second"]
        precision = resolve_precision(name.removeprefix("ours "), torch.device("cpu"))
        row[name]["of_bound"] = (
            rate / bound_of(teacher, student if stage == "student" else "", precision).images_per_second
        )
    return row


def turn(pair: str, stage: str, contestant: str, steps: int, root: Path) -> dict[str, Any]:
    """A few steps of one contestant in this process, after two to warm up."""
    shares = None
    if contestant == "baseline":
        step = baseline_stepper(pair, stage, root)
    else:
        precision = contestant.removeprefix("ours ")
        setup, made = make_stage(pair, "sskd", precision, root, stage)
        step = stepper(setup, made)
        shares = time_shares(setup, made)
    step()
    step()
    started = time.perf_counter()
    for _ in range(steps):
        step()
    rate = steps * BATCH / (time.perf_counter() - started)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    return {"images_per_second": round(rate, 1), "peak_mb": round(peak), "shares": shares}


def baseline_stepper(pair: str, stage: str, root: Path) -> Callable[[], None]:
    dataset = dataset_at(root)
    data = load_dataset(DatasetSpec(name=dataset), root)
    images = data.train_images.permute(0, 2, 3, 1).contiguous().numpy()
    teacher_name, student_name = pair.split("/")
    teacher = build_network(teacher_name, CLASSES[dataset]).eval()
    student = build_network(student_name, CLASSES[dataset])
    teacher_head, student_head = baseline.head(teacher_name), baseline.head(student_name)
    if stage == "head":
        action = baseline.head_step(teacher, teacher_head, _sgd(teacher_head.parameters()))
    else:
        learned = [*student.parameters(), *student_head.parameters()]
        action = baseline.student_step(student, teacher, student_head, teacher_head, _sgd(learned))
    batches = iter(baseline.loader(images, data.train_labels.numpy(), BATCH, torch.get_num_threads()))
    return lambda: action(*next(batches))


def time_shares(setup: Setup, stage: Stage, rounds: int = 4) -> dict[str, float]:
    """Shares of a step's time: making the batch, the teacher's pass, the losses (forward and backward to the features),
    and the rest, which is the student's; in the head stage losses and head are one."""
    assert setup.spec.teacher is not None
    network = build_network(setup.spec.teacher.network, setup.data.num_classes).eval()
    teacher = TeacherForward(setup.place(network), setup, frozenset({"logits", "vector"}))
    spent = dict.fromkeys(("data", "teacher", "loss", "whole"), 0.0)
    student, method = stage.trained if setup.spec.role == "student" else (None, None)
    batches = endless(setup, stage)

    def timed(part: str, action: Callable[[], Any]) -> Any:
        started = time.perf_counter()
        result = action()
        spent[part] += time.perf_counter() - started
        return result

    for number in range(rounds + 1):
        if number == 1:  # the first round warms up
            spent = dict.fromkeys(spent, 0.0)
        batch = timed("data", lambda: next(batches))
        teacher_features = timed("teacher", lambda batch=batch: teacher(batch.images))
        if method is not None:
            with torch.no_grad(), autocast(setup.device, setup.precision):
                found = student.features(batch.images)
            student_features = Features(
                found.logits.float().requires_grad_(), (found.vector.float().requires_grad_(),), ()
            )
            timed(
                "loss",
                lambda student_features=student_features, teacher_features=teacher_features, batch=batch: method(
                    student_features, teacher_features, batch
                )[0].backward(),
            )
        timed("whole", lambda batch=batch: stage.loss(batch)[0].backward())
    total = spent["data"] + spent["whole"]
    rest = max(spent["whole"] - spent["teacher"] - spent["loss"], 0.0)
    parts = {"data": spent["data"], "teacher": spent["teacher"]}
    parts |= {"student": rest, "loss": spent["loss"]} if method is not None else {"head, loss": rest}
    return {name: round(seconds / total, 3) for name, seconds in parts.items()}


def _sgd(parameters: Any) -> torch.optim.Optimizer:
    return torch.optim.SGD(parameters, lr=0.01, momentum=0.9, weight_decay=5e-4)


def _text(row: dict[str, Any]) -> str:
    lines = [f"{row['pair']}, {row['stage']} stage, {row['dataset']}:"]
    for name in CONTESTANTS:
        result = row[name]
        ratio = (
            f", {result['ratio']:.2f} times the baseline, {100 * result['of_bound']:.0f} % of the convolutions' rate"
            if "ratio" in result
            else ""
        )
        shares = (
            f"; {', '.join(f'{k} {100 * v:.0f} %' for k, v in result['shares'].items())}" if result["shares"] else ""
        )
        lines.append(
            f"  {name}: {result['images_per_second']:.0f} images/s ({result['lowest']:.0f} to {result['highest']:.0f})"
            f"{ratio}, peak {result['peak_mb']} MB{shares}"
        )
    return "\n".join(lines)


if __name__ == "__main__":
    main()
