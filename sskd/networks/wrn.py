"""Wide residual networks (Zagoruyko and Komodakis 2016), wrn_depth_width; names as in the published checkpoints."""

from torch import Tensor, nn
from torch.nn import functional as F

from sskd.networks.base import NETWORKS, Features, Network, fan_out_init, pool


class Block(nn.Module):
    """Pre-activated: norm and ReLU come before each 3x3 convolution."""

    def __init__(self, width_in: int, width: int, stride: int) -> None:
        super().__init__()
        self.bn1 = nn.BatchNorm2d(width_in)
        self.conv1 = nn.Conv2d(width_in, width, 3, stride, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(width)
        self.conv2 = nn.Conv2d(width, width, 3, 1, 1, bias=False)
        self.convShortcut = None if width_in == width else nn.Conv2d(width_in, width, 1, stride, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        active = F.relu(self.bn1(x), inplace=True)
        out = self.conv2(F.relu(self.bn2(self.conv1(active)), inplace=True))
        return out + (x if self.convShortcut is None else self.convShortcut(active))


class Group(nn.Module):
    """Blocks of one width; only the first strides."""

    def __init__(self, blocks: int, width_in: int, width: int, stride: int) -> None:
        super().__init__()
        first = Block(width_in, width, stride)
        self.layer = nn.Sequential(first, *(Block(width, width, 1) for _ in range(blocks - 1)))

    def forward(self, x: Tensor) -> Tensor:
        return self.layer(x)


class WideResNet(Network):
    """Its taps are the groups' sums, which no ReLU has touched; before-activation taps are those sums normalised by
    the norm that comes next, as the published networks have it."""

    tail = ("bn1", "fc")
    staged, stages_active = True, False

    def __init__(self, depth: int, widen: int, num_classes: int) -> None:
        super().__init__()
        blocks, widths = (depth - 4) // 6, [16 * widen, 32 * widen, 64 * widen]
        self.conv1 = nn.Conv2d(3, 16, 3, padding=1, bias=False)
        self.block1 = Group(blocks, 16, widths[0], 1)
        self.block2 = Group(blocks, widths[0], widths[1], 2)
        self.block3 = Group(blocks, widths[1], widths[2], 2)
        self.bn1 = nn.BatchNorm2d(widths[2])
        self.fc = nn.Linear(widths[2], num_classes)
        fan_out_init(self)
        nn.init.zeros_(self.fc.bias)

    def map_norms(self) -> list[nn.BatchNorm2d]:
        return [self.block2.layer[0].bn1, self.block3.layer[0].bn1, self.bn1]  # type: ignore[list-item]

    def run_stage(self, number: int, maps: Tensor) -> Tensor:
        maps = self.get_submodule(f"block{number}")(maps)
        return self.bn1(maps) if number == 3 else maps

    def stage_maps(self, features: Features) -> tuple[Tensor, ...]:
        return (*features.feature_maps[1:-1], features.preactivations[-1])

    def features(self, images: Tensor) -> Features:
        stem = self.conv1(images)
        first = self.block1(stem)
        second = self.block2(first)
        third = self.block3(second)
        last = self.bn1(third)
        pre_pool = F.relu(last)
        pooled = pool(pre_pool)
        before = (stem, *self._normalised(first, second), last)
        return Features(self.fc(pooled), (stem, first, second, third), pooled, before, pre_pool)

    def _normalised(self, first: Tensor, second: Tensor) -> tuple[Tensor, Tensor]:
        """The first two taps through the next group's first norm. Its running statistics are that group's to update,
        so they are not touched a second time here."""
        return _norm_only(self.block2, first), _norm_only(self.block3, second)


def _norm_only(group: Group, x: Tensor) -> Tensor:
    norm = group.layer[0].bn1
    assert isinstance(norm, nn.BatchNorm2d)
    statistics = (None, None) if norm.training else (norm.running_mean, norm.running_var)
    return F.batch_norm(x, *statistics, norm.weight, norm.bias, training=norm.training, eps=norm.eps)


def _register(depth: int, widen: int) -> None:
    NETWORKS.register(f"wrn_{depth}_{widen}")(lambda num_classes: WideResNet(depth, widen, num_classes))


for _depth in (16, 40):
    for _widen in (1, 2):
        _register(_depth, _widen)
