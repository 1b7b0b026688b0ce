"""Plain implementation of the published recipe's training loop, as a baseline. The suite does not use it.

It follows the reference implementations: PIL transforms per image in DataLoader workers, four PIL rotations of each,
float32 in the default memory layout, the similarity matrix by an expanded cosine_similarity, and an .item() per term.
"""

from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.data import DataLoader, Dataset
from torchvision import transforms

from perf.cases import small_images
from sskd.networks import Network, build_network, feature_shapes

MEAN, STD = (0.5071, 0.4866, 0.4409), (0.2675, 0.2565, 0.2761)


class FourViews(Dataset[tuple[Tensor, int]]):
    """Flip, four rotations, then a separate crop, tensor and normalisation per view, one image at a time."""

    def __init__(self, images: np.ndarray, labels: np.ndarray) -> None:
        self.images, self.labels = images, labels
        self.flip = transforms.RandomHorizontalFlip()
        self.finish = transforms.Compose(
            [transforms.RandomCrop(32, padding=4), transforms.ToTensor(), transforms.Normalize(MEAN, STD)]
        )

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        image = self.flip(Image.fromarray(self.images[index]))
        views = [self.finish(image.rotate(90 * turn)) for turn in range(4)]
        return torch.stack(views), int(self.labels[index])


def stepper(stage: str, pair: str, batch: int, workers: int, root: Path, device: torch.device) -> Callable[[], None]:
    """Returns a function that executes one step of the stage ("head" or "student") including its batch, from untrained
    weights. cuDNN chooses the fastest algorithms by benchmarking; TF32 has torch's default."""
    data = small_images(root)
    teacher_name, student_name = pair.split("/")
    teacher = build_network(teacher_name, data.num_classes).eval().to(device)
    student = build_network(student_name, data.num_classes).train().to(device)
    teacher_head, student_head = (head(name).to(device) for name in (teacher_name, student_name))
    learned = teacher_head if stage == "head" else nn.ModuleList([student, student_head])
    optimizer = torch.optim.SGD(learned.parameters(), lr=0.01, momentum=0.9, weight_decay=5e-4)
    if stage == "head":
        action = head_step(teacher, teacher_head, optimizer)
    else:
        action = student_step(student, teacher, student_head, teacher_head, optimizer)
    images = data.train_images.permute(0, 2, 3, 1).contiguous().numpy()
    epochs = loader(images, data.train_labels.numpy(), batch, workers)

    def batches() -> Iterator[tuple[Tensor, Tensor]]:
        while True:
            yield from epochs

    endless = batches()

    def step() -> None:
        views, labels = next(endless)
        with torch.backends.cudnn.flags(enabled=True, benchmark=True, deterministic=False, allow_tf32=True):
            action(views.to(device), labels.to(device))

    return step


def loader(images: np.ndarray, labels: np.ndarray, batch_size: int, workers: int) -> DataLoader[tuple[Tensor, int]]:
    return DataLoader(FourViews(images, labels), batch_size, shuffle=True, num_workers=workers, drop_last=True)


def head(network: str) -> nn.Module:
    """Returns the pretext head of a network."""
    width = feature_shapes(network).embed_dim
    return nn.Sequential(nn.Linear(width, width), nn.ReLU(), nn.Linear(width, width))


def head_step(teacher: Network, head: nn.Module, optimizer: torch.optim.Optimizer) -> Callable[[Tensor, Tensor], None]:
    """Returns a step of the head stage: contrastive loss on the frozen teacher's features."""

    def step(views: Tensor, labels: Tensor) -> None:
        images = views.flatten(0, 1)
        with torch.no_grad():
            vector = teacher.features(images).pooled
        scores = _similarity(head(vector), len(labels))
        target = torch.arange(len(labels), device=labels.device).repeat_interleave(3)
        loss = F.cross_entropy(scores, target)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        loss.item()
        (scores.argmax(1) == target).float().mean().item()

    return step


def student_step(
    student: Network,
    teacher: Network,
    student_head: nn.Module,
    teacher_head: nn.Module,
    optimizer: torch.optim.Optimizer,
) -> Callable[[Tensor, Tensor], None]:
    """Returns a step of SSKD's student stage with all four terms."""

    def divergence(student_logits: Tensor, teacher_logits: Tensor, temperature: float) -> Tensor:
        log_student = F.log_softmax(student_logits / temperature, dim=1)
        return (
            F.kl_div(log_student, F.softmax(teacher_logits / temperature, dim=1), reduction="batchmean")
            * temperature**2
        )

    def step(views: Tensor, labels: Tensor) -> None:
        images, batch = views.flatten(0, 1), len(labels)
        normal = torch.arange(4 * batch, device=labels.device) % 4 == 0
        student_features = student.features(images)
        with torch.no_grad():
            teacher_features = teacher.features(images)
            scores_t = _similarity(teacher_head(teacher_features.pooled), batch)
        scores_s = _similarity(student_head(student_features.pooled), batch)
        own = torch.arange(batch, device=labels.device).repeat_interleave(3)
        kept_ss = _kept(scores_t, own, 0.75)
        kept_t = _kept(teacher_features.logits[~normal], labels.repeat_interleave(3), 1.0)
        terms = [
            0.1 * F.cross_entropy(student_features.logits[normal], labels),
            0.9 * divergence(student_features.logits[normal], teacher_features.logits[normal], 4.0),
            2.7 * divergence(student_features.logits[~normal][kept_t], teacher_features.logits[~normal][kept_t], 4.0),
            10.0 * divergence(scores_s[kept_ss], scores_t[kept_ss], 0.5),
        ]
        loss = sum(terms[1:], terms[0])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        for term in terms:
            term.item()

    return step


def _similarity(output: Tensor, batch: int) -> Tensor:
    normal = torch.arange(len(output), device=output.device) % 4 == 0
    rotated, plain = output[~normal], output[normal]
    width = output.shape[1]
    return F.cosine_similarity(
        rotated.unsqueeze(2).expand(-1, -1, batch), plain.t().unsqueeze(0).expand(3 * batch, width, -1), dim=1
    )


def _kept(scores: Tensor, target: Tensor, ratio: float) -> Tensor:
    order = scores.argsort(dim=1, descending=True)
    rank = (order == target[:, None]).nonzero()[:, 1]
    wrong = int((rank > 0).sum().item())
    return rank.argsort(stable=True)[: len(rank) - wrong + int(ratio * wrong)]
