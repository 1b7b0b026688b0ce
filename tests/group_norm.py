"""A network without batch norm, so that several processes compute exactly what one does."""

from itertools import pairwise

from torch import Tensor, nn
from torch.nn import functional as F

from sskd.networks.base import NETWORKS, Features, Network, pool


class GroupNormNet(Network):
    def __init__(self, num_classes: int) -> None:
        super().__init__()
        widths = (3, 8, 16, 16)
        self.convolutions = nn.ModuleList(nn.Conv2d(a, b, 3, 2, 1) for a, b in pairwise(widths))
        self.norms = nn.ModuleList(nn.GroupNorm(4, width) for width in widths[1:])
        self.fc = nn.Linear(16, num_classes)

    def features(self, images: Tensor) -> Features:
        maps, before, x = [], [], images
        for convolution, norm in zip(self.convolutions, self.norms, strict=True):
            total = norm(convolution(x))
            x = F.relu(total)
            maps.append(x)
            before.append(total)
        pooled = pool(x)
        return Features(self.fc(pooled), tuple(maps), pooled, tuple(before))


NETWORKS.register("group_norm")(GroupNormNet)
