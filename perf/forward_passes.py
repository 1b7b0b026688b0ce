"""What forward passes without learning cost on this CPU: the frozen teacher's, by how many images go through it at a
time, and the measurement of all test images, beside the epoch of training that it follows.

    python -m perf.forward_passes --dataset-root DIR

The sizes take turns, as do the two kinds of steps; medians of the turns, with the fastest.
"""

import argparse
import statistics
from collections.abc import Callable
from functools import partial
from pathlib import Path

import torch

from perf.stages import make_stage, small_images, stepper
from perf.turns import in_turns
from sskd.config.recipe import Recipe
from sskd.device import resolve_precision
from sskd.networks import build_network
from sskd.training.evaluation import EvaluationSet, accuracy
from sskd.training.forward import TeacherForward

SIZES = (32, 64, 128, 256)  # images at a time
BATCH = Recipe().batch_size


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--pair", default="resnet56/resnet20", help="teacher/student")
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--dataset-root", type=Path, default=Path("data"))
    options = parser.parse_args()
    print(f"{torch.get_num_threads()} threads")
    for precision in dict.fromkeys(("fp32", resolve_precision("auto", torch.device("cpu")))):
        teachers = teacher_passes(options.pair, precision, options.dataset_root)
        for size, seconds in in_turns(teachers, options.rounds).items():
            print(f"{options.pair} {precision}: teacher, {size} images at a time: {_ms(seconds)}", flush=True)
        of_measurement = measurement(options.pair, precision, options.dataset_root)
        print(f"{options.pair} {precision}: {of_measurement}", flush=True)


def teacher_passes(pair: str, precision: str, root: Path) -> dict[int, Callable[[], object]]:
    """A pass of the frozen teacher over four views of a batch, for every number of images that go through at a time."""
    setup, _ = make_stage(pair, "kd", precision, root)
    teacher = build_network(pair.split("/")[0], setup.data.num_classes).eval().requires_grad_(False)
    images = torch.randn(4 * BATCH, 3, setup.data.image_size, setup.data.image_size)
    images = images.to(memory_format=torch.channels_last)
    passes: dict[int, Callable[[], object]] = {}
    for size in SIZES:
        in_pieces = TeacherForward(teacher, setup, frozenset({"logits", "vector"}), images_at_once=size)
        passes[size] = partial(in_pieces, images)
    return passes


def measurement(pair: str, precision: str, root: Path) -> str:
    """Seconds for all test images, and which share that is of an epoch of the student alone and of KD."""
    steps = {}
    for method in ("none", "kd"):
        setup, stage = make_stage(pair, method, precision, root)
        steps[method] = stepper(setup, stage)
    data = small_images(root)
    student = build_network(pair.split("/")[1], data.num_classes)
    test = EvaluationSet(data, torch.device("cpu"), precision)
    tested = statistics.median(in_turns({"test": lambda: accuracy(student, test)}, 3)["test"])
    found = f"{len(data.test_labels)} test images in {tested:.2f} s"
    for method, seconds in in_turns(steps, 30).items():
        epoch = len(data.train_labels) / BATCH * statistics.median(seconds)
        found += f"; an epoch of {method} {epoch:.0f} s, {100 * tested / epoch:.1f} %"
    return found


def _ms(seconds: list[float]) -> str:
    return f"{1000 * statistics.median(seconds):.0f} ms, fastest {1000 * min(seconds):.0f} ms"


if __name__ == "__main__":
    main()
