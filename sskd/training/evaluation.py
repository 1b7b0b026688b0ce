"""Evaluation of trained networks: accuracy, agreement with the teacher, and features for figures."""

import dataclasses
from collections.abc import Iterator
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F

from sskd.data.batch import LoaderConfig
from sskd.data.datasets.registry import Data, ImageData
from sskd.data.splits import Subset
from sskd.errors import UserError
from sskd.networks import Features, Network
from sskd.runtime.device import autocast

SMALL = 64  # pixels; larger images need too much GPU memory for batches of thousands


class EvaluationSet(NamedTuple):
    """The test images, or training images (``subset``), with the device and precision of their evaluation."""

    data: Data
    device: torch.device
    precision: str
    channels_last: bool = True
    batch_size: int | None = None  # None: depends on the device
    workers: int | None = None
    subset: Subset | None = None  # training images that replace the test images

    @property
    def layout(self) -> torch.memory_format:
        """Memory layout of the images; the network should have the same."""
        return torch.channels_last if self.channels_last else torch.contiguous_format

    @property
    def eval_batch_size(self) -> int:
        """Batch size: 2,500 for small images on a GPU, which smaller batches would leave idle; else 500."""
        small = self.data.image_size <= SMALL
        return self.batch_size or (2500 if self.device.type == "cuda" and small else 500)

    def features(self, network: Network) -> Iterator[tuple[Features, Tensor]]:
        """Yields features (in the run's precision) and labels batch by batch, with the network in eval mode."""
        was_training = network.training
        network.eval()
        config = LoaderConfig(self.device, self.channels_last, workers=self.workers)
        if self.subset is None:
            batches = self.data.test_batches(self.eval_batch_size, config)
        else:
            batches = self.data.subset_batches(self.subset, self.eval_batch_size, config)
        try:
            for images, labels in batches:
                # not around the yield: the modes would also affect the caller between two batches
                with torch.inference_mode(), autocast(self.device, self.precision):
                    features = network.features(images)
                yield features, labels
        finally:
            network.train(was_training)


def accuracy(network: Network, test: EvaluationSet) -> dict[str, float]:
    """Returns top1 and top5 (%), loss (mean cross-entropy) and the number of images, without augmentation."""
    sums = torch.zeros(3, dtype=torch.float64, device=test.device)
    images = 0
    for features, labels in test.features(network):
        logits = features.logits.float()
        best = logits.topk(min(5, logits.shape[1]), dim=1).indices == labels[:, None]
        loss = F.cross_entropy(logits, labels, reduction="sum")
        sums += torch.stack([best[:, 0].sum(), best.any(1).sum(), loss]).double()
        images += len(labels)
    top1, top5, loss_sum = sums.tolist()
    return {
        "top1": 100 * top1 / images,
        "top5": 100 * top5 / images,
        "loss": loss_sum / images,
        "images": images,
    }


def agreement(student: Network, teacher: Network, test: EvaluationSet, temperature: float = 4.0) -> dict[str, float]:
    """Returns the student-teacher agreement on the test images (the paper's Table 6).

    kl: mean KL(teacher || student) of predictions softened by ``temperature``, in nats. cka: linear centred kernel
    alignment of the pooled features (Kornblith et al. 2019), 0 to 1.
    """
    divergence = torch.zeros((), dtype=torch.float64, device=test.device)
    student_vectors, teacher_vectors = [], []
    for (s, _), (t, _) in zip(test.features(student), test.features(teacher), strict=True):
        log_s = F.log_softmax(s.logits.float() / temperature, dim=1)
        log_t = F.log_softmax(t.logits.float() / temperature, dim=1)
        divergence += F.kl_div(log_s, log_t, reduction="sum", log_target=True).double()
        student_vectors.append(s.pooled.float())
        teacher_vectors.append(t.pooled.float())
    x, y = torch.cat(student_vectors), torch.cat(teacher_vectors)
    return {"kl": divergence.item() / len(x), "cka": linear_cka(x, y)}


def linear_cka(x: Tensor, y: Tensor) -> float:
    """Returns the linear CKA of two feature matrices of the same N images, (N, D1) and (N, D2); 1 if they are equal
    up to rotation and scale. ||Y'X||^2 / (||X'X|| ||Y'Y||) on centred columns (Kornblith et al. 2019, equation 4)."""
    x, y = x.double() - x.double().mean(0), y.double() - y.double().mean(0)
    cross, own_x, own_y = ((a.T @ b).norm() for a, b in ((y, x), (x, x), (y, y)))
    return (cross**2 / (own_x * own_y)).item()


def image_vectors(network: Network, data: Data, classes: int) -> tuple[Tensor, Tensor]:
    """Pooled features (N, D) float32 and labels (N,) of the test images of the first ``classes`` classes, in their
    order. They are computed in float32 on the CPU, so that figures do not depend on the machine's device or
    precision."""
    if not isinstance(data, ImageData):
        raise UserError(
            f"features of single classes need a data set in memory, but the images of '{data.name}' are read from files"
        )
    few = data.test_labels < classes
    part = dataclasses.replace(data, test_images=data.test_images[few], test_labels=data.test_labels[few])
    batches = list(EvaluationSet(part, torch.device("cpu"), "fp32").features(network))
    return torch.cat([f.pooled.float() for f, _ in batches]), torch.cat([labels for _, labels in batches])
