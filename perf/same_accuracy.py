"""Does speed cost accuracy? The plain loop, ours in float32 and ours in the fast precision, trained alike, by seed.

    python -m perf.same_accuracy --dataset-root data        about fifteen minutes on two cores

A resnet20 (the file that --teacher names) teaches resnet8 by SSKD on a tenth of CIFAR-100, the same images, schedule
and teacher's head for all; the loops draw their own crops and initial weights, so their accuracies differ as two seeds
do. Reported: accuracy of the last epoch by seed, mean and deviation, and the difference to the plain loop paired by
seed with its 95 % t interval.
"""

import argparse
import statistics
import tempfile
import time
from pathlib import Path
from typing import Any

import torch
from scipy import stats

from perf import baseline
from sskd.config.execution import Execution
from sskd.data.datasets.registry import ImageData, load_dataset
from sskd.data.splits import make_split
from sskd.networks import build_network
from sskd.networks.weights import load_network, load_state
from sskd.optim import learning_rate_at
from sskd.runs.run_folder import RunFolder
from sskd.runs.spec import StudentSpec, parse_spec
from sskd.training.evaluation import EvaluationSet, accuracy
from sskd.training.loop import train

TEACHER, STUDENT = "resnet20", "resnet8"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--dataset-root", default="data")
    parser.add_argument("--teacher", default="../shared/weights/resnet20.pth", help="weights of resnet20")
    parser.add_argument("--epochs", type=int, default=4)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--fraction", type=float, default=0.1)
    options = parser.parse_args()
    execution = Execution(dataset_root=options.dataset_root)
    results: dict[str, list[float]] = {"plain loop": [], "ours fp32": [], "ours auto": []}
    with tempfile.TemporaryDirectory() as folder:
        runs = Path(folder)
        head = _spec(options, 0, "auto").head
        assert head is not None
        train(head, runs, execution, say=lambda _: None)
        for seed in range(options.seeds):
            for name, values in results.items():
                started = time.perf_counter()
                spec = _spec(options, seed, "auto" if name == "ours auto" else "fp32")
                values.append(_plain(spec, runs, execution) if name == "plain loop" else _ours(spec, runs, execution))
                seconds = time.perf_counter() - started
                print(f"seed {seed}, {name}: {values[-1]:.2f} % top-1, {seconds:.0f} s", flush=True)
    for name, values in results.items():
        print(f"{name}: {statistics.mean(values):.2f} +- {statistics.stdev(values):.2f}")
    for name, other in (("ours fp32", "plain loop"), ("ours auto", "plain loop"), ("ours auto", "ours fp32")):
        gaps = [a - b for a, b in zip(results[name], results[other], strict=True)]
        half = stats.t.ppf(0.975, len(gaps) - 1) * statistics.stdev(gaps) / len(gaps) ** 0.5
        mean = statistics.mean(gaps)
        print(f"{name} - {other}: {mean:+.2f}, 95 % interval {mean - half:+.2f} to {mean + half:+.2f}")


def _spec(options: argparse.Namespace, seed: int, precision: str) -> StudentSpec:
    common: dict[str, Any] = {
        "dataset": {"name": "cifar100"},
        "split": {"fraction": options.fraction},
        "teacher": {"network": TEACHER, "weights": options.teacher},
    }
    schedule = {"epochs": 2, "milestones": [30, 45], "full_epochs": 60}
    head = {"role": "head", "network": TEACHER, "pretext": "contrastive", "recipe": schedule, **common}
    recipe = {"epochs": options.epochs, "precision": precision}
    student = {"role": "student", "network": STUDENT, "method": "sskd", "head": head, "recipe": recipe, **common}
    spec = parse_spec(student | {"seed": seed}, "perf")
    assert isinstance(spec, StudentSpec)
    return spec


def _ours(spec: StudentSpec, runs: Path, execution: Execution) -> float:
    return float(train(spec, runs, execution, say=lambda _: None)["last"]["test_top1"])


def _plain(spec: StudentSpec, runs: Path, execution: Execution) -> float:
    """The same training by perf/baseline.py."""
    assert spec.head is not None
    assert spec.teacher is not None
    data = load_dataset(spec.dataset, Path(execution.dataset_root))
    assert isinstance(data, ImageData)
    split = make_split(data.train_labels, data.num_classes, spec.split)
    images = data.train_images[split.indices].permute(0, 2, 3, 1).contiguous().numpy()
    teacher = load_network(str(getattr(spec.teacher, "weights", "")), TEACHER, data.num_classes).eval()
    torch.manual_seed(1000 + spec.seed)
    student, student_head = build_network(STUDENT, data.num_classes), baseline.head(STUDENT)
    teacher_head = baseline.head(TEACHER)
    trained = load_state(RunFolder(runs, spec.head).weights("last"))
    teacher_head.load_state_dict({key.removeprefix("layers."): value for key, value in trained.items()})
    recipe = spec.recipe
    learned = [*student.parameters(), *student_head.parameters()]
    optimizer = torch.optim.SGD(learned, recipe.learning_rate, recipe.momentum, weight_decay=recipe.weight_decay)
    step = baseline.student_step(student.train(), teacher, student_head, teacher_head, optimizer)
    loader = baseline.loader(images, split.labels.numpy(), recipe.batch_size, torch.get_num_threads())
    for epoch in range(recipe.epochs):
        for group in optimizer.param_groups:
            group["lr"] = learning_rate_at(recipe, epoch)
        for views, labels in loader:
            step(views, labels)
    return accuracy(student, EvaluationSet(data, torch.device("cpu"), "fp32", channels_last=False))["top1"]


if __name__ == "__main__":
    main()
