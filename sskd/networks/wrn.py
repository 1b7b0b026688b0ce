"""Wide residual networks (Zagoruyko and Komodakis 2016), wrn_DEPTH_WIDTH, with the published parameter names."""

from torch import Tensor, nn
from torch.nn import functional as F

from sskd.networks.base import NETWORKS, Features, Network, fan_out_init, pool


class Block(nn.Module):
    """Pre-activation block: batch norm and ReLU come before each 3x3 convolution."""

    def __init__(self, in_channels: int, channels: int, stride: int) -> None:
        super().__init__()
        self.bn1 = nn.BatchNorm2d(in_channels)
        self.conv1 = nn.Conv2d(in_channels, channels, 3, stride, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(channels)
        self.conv2 = nn.Conv2d(channels, channels, 3, 1, 1, bias=False)
        self.convShortcut = None if in_channels == channels else nn.Conv2d(in_channels, channels, 1, stride, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        active = F.relu(self.bn1(x), inplace=True)
        out = self.conv2(F.relu(self.bn2(self.conv1(active)), inplace=True))
        return out + (x if self.convShortcut is None else self.convShortcut(active))


class Group(nn.Module):
    """Blocks with equal numbers of channels; only the first has the stride."""

    def __init__(self, blocks: int, in_channels: int, channels: int, stride: int) -> None:
        super().__init__()
        first = Block(in_channels, channels, stride)
        self.layer = nn.Sequential(first, *(Block(channels, channels, 1) for _ in range(blocks - 1)))

    def forward(self, x: Tensor) -> Tensor:
        return self.layer(x)


class WideResNet(Network):
    """The feature maps are the groups' sums, before any ReLU. As in CRD's code, the pre-activations are these sums
    after the following batch norm."""

    tail = ("bn1", "fc")
    staged, stages_active = True, False

    def __init__(self, depth: int, widen: int, num_classes: int) -> None:
        super().__init__()
        blocks, channels = (depth - 4) // 6, [16 * widen, 32 * widen, 64 * widen]
        self.conv1 = nn.Conv2d(3, 16, 3, padding=1, bias=False)
        self.block1 = Group(blocks, 16, channels[0], 1)
        self.block2 = Group(blocks, channels[0], channels[1], 2)
        self.block3 = Group(blocks, channels[1], channels[2], 2)
        self.bn1 = nn.BatchNorm2d(channels[2])
        self.fc = nn.Linear(channels[2], num_classes)
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
        before = (stem, _first_norm(self.block2, first), _first_norm(self.block3, second), last)
        return Features(self.fc(pooled), (stem, first, second, third), pooled, before, pre_pool)


def _first_norm(group: Group, x: Tensor) -> Tensor:
    """Applies the first batch norm of the next group to a map, without a second update of its running statistics."""
    norm = group.layer[0].bn1
    assert isinstance(norm, nn.BatchNorm2d)
    statistics = (None, None) if norm.training else (norm.running_mean, norm.running_var)
    return F.batch_norm(x, *statistics, norm.weight, norm.bias, training=norm.training, eps=norm.eps)


def _register(depth: int, widen: int) -> None:
    NETWORKS.register(f"wrn_{depth}_{widen}")(lambda num_classes: WideResNet(depth, widen, num_classes))


for _depth in (16, 40):
    for _widen in (1, 2):
        _register(_depth, _widen)
