"""The plain published loop on the device: perf/baseline.py in float32, as in its authors' code."""

from collections.abc import Callable, Iterator
from pathlib import Path

import torch
from torch import Tensor

from perf import baseline
from perf.stages import CLASSES, dataset_at, small_images
from sskd.networks import build_network


def plain_stepper(
    stage: str, pair: str, batch: int, workers: int, root: Path, device: torch.device
) -> Callable[[], None]:
    """Returns a function that executes one step: PIL images from worker processes, copied to the device, float32,
    .item() per term. cuDNN chooses the fastest algorithms by benchmarking; TF32 has torch's default."""
    dataset, data = dataset_at(root), small_images(root)
    images = data.train_images.permute(0, 2, 3, 1).contiguous().numpy()
    teacher_name, student_name = pair.split("/")
    teacher = build_network(teacher_name, CLASSES[dataset]).eval().to(device)
    student = build_network(student_name, CLASSES[dataset]).train().to(device)
    teacher_head, student_head = (baseline.head(name).to(device) for name in (teacher_name, student_name))
    if stage == "head":
        optimizer = torch.optim.SGD(teacher_head.parameters(), lr=0.01, momentum=0.9, weight_decay=5e-4)
        action = baseline.head_step(teacher, teacher_head, optimizer)
    else:
        learned = [*student.parameters(), *student_head.parameters()]
        optimizer = torch.optim.SGD(learned, lr=0.01, momentum=0.9, weight_decay=5e-4)
        action = baseline.student_step(student, teacher, student_head, teacher_head, optimizer)
    loader = baseline.loader(images, data.train_labels.numpy(), batch, workers)

    def batches() -> Iterator[tuple[Tensor, Tensor]]:
        while True:
            yield from loader

    endless = batches()

    def step() -> None:
        views, labels = next(endless)
        with torch.backends.cudnn.flags(enabled=True, benchmark=True, deterministic=False, allow_tf32=True):
            action(views.to(device), labels.to(device))

    return step
