"""CRD's memory banks, an embedding of every training image for each side, and the draw of positives and negatives."""

from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from sskd.errors import UserError

KEYS_AT_ONCE = 2**25  # rows are drawn in chunks of at most so many 4-byte keys: CIFAR in one, ImageNet in several


class Banks(nn.Module):
    """Two banks (N, width), buffers ``student`` and ``teacher``, uniform in +-1/sqrt(width / 3) at first.

    ``labels``: (N,) int64, the class of every training image. All tensors live where the module is moved to;
    only the banks are saved (the rest follows from the labels). UserError if there is only one class.
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
            raise UserError("crd draws negatives of other classes: the training split must hold at least two classes")
        # images sorted by class: class c is by_class[start[c] : start[c] + count[c]]
        self.register_buffer("labels", labels.clone(), persistent=False)
        self.register_buffer("by_class", labels.argsort(stable=True), persistent=False)
        self.register_buffer("start", count.cumsum(0) - count, persistent=False)
        self.register_buffer("count", count, persistent=False)
        others = len(labels) - count[count > 0]  # a class without images is never asked for
        self.fewest_others, self.most_others = int(others.min()), int(others.max())

    @torch.no_grad()
    def draw(
        self,
        indices: Tensor,
        negatives: int,
        positive: Literal["exact", "relaxed"],
        generator: torch.Generator,
    ) -> Tensor:
        """The contrasts of each image: (B, 1 + K) indices into the banks, the positive first.

        ``indices`` (B,) are the images' own. Positive: the own index ("exact") or a uniform one of the same
        class, perhaps the own ("relaxed"). Negatives: uniform among the images of other classes, independent
        from row to row; without replacement, except where there are fewer than K (as the published code).
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
        """(B, K) different images of other classes: those with the K largest of one random key per image.

        Exact sampling without replacement, up to ties at the K-th key (31 random bits: at N = 50,000 one row
        in 40,000 has one, and only that tie is not decided by chance). A full sort takes five times as long;
        rejecting repeated draws is faster at K = N / 3, but slows down without bound as K nears N.
        """
        rows = max(1, KEYS_AT_ONCE // len(self.labels))
        drawn = []
        for chunk in indices.split(rows):
            keys = torch.empty(len(chunk), len(self.labels), dtype=torch.int32, device=chunk.device)
            keys.random_(generator=generator)
            keys.masked_fill_(self.labels == self.labels[chunk, None], -1)  # below every key
            drawn.append(keys.topk(negatives, dim=1, sorted=False).indices)
        return torch.cat(drawn)

    def _any_others(self, indices: Tensor, negatives: int, generator: torch.Generator) -> Tensor:
        """(B, K) images of other classes, with replacement: uniform ranks that skip the own class's block."""
        own = self.labels[indices]
        start, count = self.start[own, None], self.count[own, None]
        ranks = _uniform_below(len(self.labels) - count, (len(indices), negatives), generator)
        return self.by_class[ranks + count * (ranks >= start)]

    def _same_class(self, indices: Tensor, generator: torch.Generator) -> Tensor:
        own = self.labels[indices]
        return self.by_class[self.start[own] + _uniform_below(self.count[own], (len(indices),), generator)]

    @torch.no_grad()
    def update(self, indices: Tensor, student: Tensor, teacher: Tensor, momentum: float) -> None:
        """entry <- normalise(momentum * entry + (1 - momentum) * embedding), at ``indices`` (B,) int64. Embeddings:
        (B, width) float32."""
        for bank, embedding in ((self.student, student), (self.teacher, teacher)):
            mixed = momentum * bank[indices] + (1 - momentum) * embedding
            bank.index_copy_(0, indices, F.normalize(mixed, dim=1))


def _uniform_below(limit: Tensor, shape: tuple[int, ...], generator: torch.Generator) -> Tensor:
    """Integers of ``shape``, uniform in [0, limit), limit > 0 broadcast; the bias is below limit / 2^62."""
    return torch.randint(2**62, shape, generator=generator, device=limit.device) % limit
