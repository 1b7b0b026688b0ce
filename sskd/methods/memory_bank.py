"""CRD's memory banks (student and teacher embeddings of all training images) and the sampling of contrasts."""

from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from sskd.errors import UserError

MAX_KEYS = 2**25  # 4-byte keys per chunk of rows; CIFAR needs one chunk, ImageNet several


class Banks(nn.Module):
    """Two banks (N, width), the buffers ``student`` and ``teacher``, initially uniform in +-1/sqrt(width / 3).

    labels: (N,) int64, classes of the training images. Only the banks are saved; the other buffers follow from the
    labels. Raises UserError if there is only one class.
    """

    student: Tensor
    teacher: Tensor
    labels: Tensor
    by_class: Tensor
    start: Tensor
    count: Tensor

    def __init__(self, labels: Tensor, num_classes: int, width: int) -> None:
        super().__init__()
        bound = (width / 3) ** -0.5
        for side in ("student", "teacher"):
            self.register_buffer(side, torch.empty(len(labels), width).uniform_(-bound, bound))
        count = torch.bincount(labels, minlength=num_classes)
        if int((count > 0).sum()) < 2:
            raise UserError(
                "method 'crd' draws negatives of other classes: use a training split with at least two classes"
            )
        # images sorted by class: class c is by_class[start[c] : start[c] + count[c]]
        self.register_buffer("labels", labels.clone(), persistent=False)
        self.register_buffer("by_class", labels.argsort(stable=True), persistent=False)
        self.register_buffer("start", count.cumsum(0) - count, persistent=False)
        self.register_buffer("count", count, persistent=False)
        others = len(labels) - count[count > 0]  # classes without images are never drawn
        self.fewest_others, self.most_others = int(others.min()), int(others.max())

    @torch.no_grad()
    def draw(
        self,
        indices: Tensor,
        negatives: int,
        positive: Literal["exact", "relaxed"],
        generator: torch.Generator,
    ) -> Tensor:
        """Returns the contrasts of each image: (B, 1 + K) indices into the banks, the positive first.

        indices: (B,) int64, of the images. The positive is the own index ("exact") or a uniform one of the same class
        ("relaxed"). The negatives are uniform among the images of other classes, independently per row, and without
        replacement unless there are fewer than K (as in the published code).
        """
        positives = indices if positive == "exact" else self._same_class(indices, generator)
        if negatives <= self.most_others:
            drawn = self._distinct_others(indices, negatives, generator)
            if negatives > self.fewest_others:
                enough = len(self.labels) - self.count[self.labels[indices]] >= negatives
                drawn = torch.where(enough[:, None], drawn, self._any_others(indices, negatives, generator))
        else:
            drawn = self._any_others(indices, negatives, generator)
        return torch.cat([positives[:, None], drawn], dim=1)

    def _distinct_others(self, indices: Tensor, negatives: int, generator: torch.Generator) -> Tensor:
        """Draws (B, K) images of other classes without replacement: those with the K largest random keys.

        The sampling is exact except for ties at the K-th key (31 random bits; at N = 50,000 one row in 40,000 has one).
        A full sort takes five times as long. Rejection sampling is faster at K = N / 3, but its time is unbounded as K
        approaches N.
        """
        rows = max(1, MAX_KEYS // len(self.labels))
        drawn = []
        for chunk in indices.split(rows):
            keys = torch.empty(len(chunk), len(self.labels), dtype=torch.int32, device=chunk.device)
            keys.random_(generator=generator)
            keys.masked_fill_(self.labels == self.labels[chunk, None], -1)  # below every key
            drawn.append(keys.topk(negatives, dim=1, sorted=False).indices)
        return torch.cat(drawn)

    def _any_others(self, indices: Tensor, negatives: int, generator: torch.Generator) -> Tensor:
        """Draws (B, K) images of other classes with replacement: uniform ranks that skip the block of the own class."""
        own = self.labels[indices]
        start, count = self.start[own, None], self.count[own, None]
        ranks = _uniform_below(len(self.labels) - count, (len(indices), negatives), generator)
        return self.by_class[ranks + count * (ranks >= start)]

    def _same_class(self, indices: Tensor, generator: torch.Generator) -> Tensor:
        own = self.labels[indices]
        return self.by_class[self.start[own] + _uniform_below(self.count[own], (len(indices),), generator)]

    @torch.no_grad()
    def update(self, indices: Tensor, student: Tensor, teacher: Tensor, momentum: float) -> None:
        """Updates the entries at ``indices`` (B,) int64: normalise(momentum * entry + (1 - momentum) * embedding).
        student, teacher: embeddings (B, width) float32."""
        for bank, embedding in ((self.student, student), (self.teacher, teacher)):
            mixed = momentum * bank[indices] + (1 - momentum) * embedding
            bank.index_copy_(0, indices, F.normalize(mixed, dim=1))


def _uniform_below(limit: Tensor, shape: tuple[int, ...], generator: torch.Generator) -> Tensor:
    """Draws integers of ``shape``, uniform in [0, limit), with limit > 0 broadcast; the bias is below limit / 2^62."""
    return torch.randint(2**62, shape, generator=generator, device=limit.device) % limit
