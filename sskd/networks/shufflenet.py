"""ShuffleNet V1 (Zhang et al. 2018; three groups) and V2 (Ma et al. 2018; width 1) for CIFAR, as in CRD's benchmark."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from sskd.networks.base import NETWORKS, Features, Network, pool
from sskd.networks.resnet import residual_stages

BLOCKS = (4, 8, 4)
GROUPS = 3
V1_CHANNELS = (24, 240, 480, 960)
V2_CHANNELS = (24, 116, 232, 464)
V2_LAST = 1024


class V1Block(nn.Module):
    """Grouped 1x1, channel shuffle, depthwise 3x3, grouped 1x1. Returns the sum with the input (with stride 2: the
    concatenation with the pooled input) before its ReLU."""

    def __init__(self, in_channels: int, channels: int, stride: int) -> None:
        super().__init__()
        self.stride = stride
        self.groups = 1 if in_channels == V1_CHANNELS[0] else GROUPS  # as the stem has few channels
        added = channels - in_channels if stride == 2 else channels
        hidden = added // 4
        self.conv1 = nn.Conv2d(in_channels, hidden, 1, groups=self.groups, bias=False)
        self.bn1 = nn.BatchNorm2d(hidden)
        self.conv2 = nn.Conv2d(hidden, hidden, 3, stride, 1, groups=hidden, bias=False)
        self.bn2 = nn.BatchNorm2d(hidden)
        self.conv3 = nn.Conv2d(hidden, added, 1, groups=GROUPS, bias=False)
        self.bn3 = nn.BatchNorm2d(added)

    def forward(self, x: Tensor) -> Tensor:
        out = F.relu(self.bn1(self.conv1(x)), inplace=True)
        out = F.channel_shuffle(out, self.groups)
        out = F.relu(self.bn2(self.conv2(out)), inplace=True)
        out = self.bn3(self.conv3(out))
        return torch.cat([out, F.avg_pool2d(x, 3, 2, 1)], 1) if self.stride == 2 else out + x


class ShuffleV1(Network):
    """ShuffleNet V1 with three groups, as in CRD's code. Feature maps: the stem and the three stages. There are 960
    pooled features."""

    tail = ("linear",)
    staged, stages_active = True, False

    def __init__(self, num_classes: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(3, V1_CHANNELS[0], 1, bias=False)
        self.bn1 = nn.BatchNorm2d(V1_CHANNELS[0])
        stages = [
            nn.Sequential(
                V1Block(in_channels, channels, 2), *(V1Block(channels, channels, 1) for _ in range(blocks - 1))
            )
            for in_channels, channels, blocks in zip(V1_CHANNELS, V1_CHANNELS[1:], BLOCKS, strict=False)
        ]
        self.layer1, self.layer2, self.layer3 = stages
        self.linear = nn.Linear(V1_CHANNELS[-1], num_classes)

    def run_stage(self, number: int, maps: Tensor) -> Tensor:
        return residual_stages([self.get_submodule(f"layer{number}")], F.relu(maps))[1][0]

    def stage_maps(self, features: Features) -> tuple[Tensor, ...]:
        return features.preactivations[1:]

    def features(self, images: Tensor) -> Features:
        stem = F.relu(self.bn1(self.conv1(images)), inplace=True)
        maps, before = residual_stages([self.layer1, self.layer2, self.layer3], stem)
        pooled = pool(maps[-1])
        return Features(self.linear(pooled), (stem, *maps), pooled, (stem, *before), maps[-1])


class V2Block(nn.Module):
    """Convolves half of the channels, then shuffles both halves. Returns the map after and before its ReLU."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        half = channels // 2
        self.conv1 = nn.Conv2d(half, half, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(half)
        self.conv2 = nn.Conv2d(half, half, 3, 1, 1, groups=half, bias=False)
        self.bn2 = nn.BatchNorm2d(half)
        self.conv3 = nn.Conv2d(half, half, 1, bias=False)
        self.bn3 = nn.BatchNorm2d(half)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        passing, x = x.chunk(2, 1)
        out = F.relu(self.bn1(self.conv1(x)), inplace=True)
        total = self.bn3(self.conv3(self.bn2(self.conv2(out))))
        return _shuffled(passing, F.relu(total)), _shuffled(passing, total)


class V2Down(nn.Module):
    """Downsampling block (stride 2): both branches convolve all channels. Returns the map after and before its
    ReLUs."""

    def __init__(self, in_channels: int, channels: int, stride: int = 2) -> None:
        super().__init__()
        half = channels // 2
        self.conv1 = nn.Conv2d(in_channels, in_channels, 3, stride, 1, groups=in_channels, bias=False)
        self.bn1 = nn.BatchNorm2d(in_channels)
        self.conv2 = nn.Conv2d(in_channels, half, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(half)
        self.conv3 = nn.Conv2d(in_channels, half, 1, bias=False)
        self.bn3 = nn.BatchNorm2d(half)
        self.conv4 = nn.Conv2d(half, half, 3, stride, 1, groups=half, bias=False)
        self.bn4 = nn.BatchNorm2d(half)
        self.conv5 = nn.Conv2d(half, half, 1, bias=False)
        self.bn5 = nn.BatchNorm2d(half)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        left = self.bn2(self.conv2(self.bn1(self.conv1(x))))
        right = F.relu(self.bn3(self.conv3(x)), inplace=True)
        right = self.bn5(self.conv5(self.bn4(self.conv4(right))))
        return _shuffled(F.relu(left), F.relu(right)), _shuffled(left, right)


def shuffled_stages(stages: Sequence[nn.Module], x: Tensor) -> tuple[list[Tensor], list[Tensor]]:
    """Runs stages of V2Down and V2Block on ``x`` and returns their outputs after and before the last ReLU."""
    maps, before = [], []
    for stage in stages:
        for block in stage.children():
            x, total = block(x)
        maps.append(x)
        before.append(total)
    return maps, before


def _shuffled(first: Tensor, second: Tensor) -> Tensor:
    return F.channel_shuffle(torch.cat([first, second], 1), 2)


class ShuffleV2(Network):
    """ShuffleNet V2 at width 1. Feature maps: the stem and the three stages; a 1x1 convolution precedes the pooling.
    There are 1024 pooled features."""

    tail = ("conv2", "bn2", "linear")
    staged = True

    def __init__(self, num_classes: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(3, V2_CHANNELS[0], 1, bias=False)
        self.bn1 = nn.BatchNorm2d(V2_CHANNELS[0])
        stages = [
            nn.Sequential(V2Down(in_channels, channels), *(V2Block(channels) for _ in range(blocks - 1)))
            for in_channels, channels, blocks in zip(V2_CHANNELS, V2_CHANNELS[1:], BLOCKS, strict=False)
        ]
        self.layer1, self.layer2, self.layer3 = stages
        self.conv2 = nn.Conv2d(V2_CHANNELS[-1], V2_LAST, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(V2_LAST)
        self.linear = nn.Linear(V2_LAST, num_classes)

    def run_stage(self, number: int, maps: Tensor) -> Tensor:
        maps = shuffled_stages([self.get_submodule(f"layer{number}")], maps)[0][0]
        return F.relu(self.bn2(self.conv2(maps)), inplace=True) if number == 3 else maps

    def features(self, images: Tensor) -> Features:
        stem = F.relu(self.bn1(self.conv1(images)), inplace=True)
        maps, before = shuffled_stages([self.layer1, self.layer2, self.layer3], stem)
        pre_pool = F.relu(self.bn2(self.conv2(maps[-1])), inplace=True)
        pooled = pool(pre_pool)
        return Features(self.linear(pooled), (stem, *maps), pooled, (stem, *before), pre_pool)


NETWORKS.register("ShuffleV1")(ShuffleV1)
NETWORKS.register("ShuffleV2")(ShuffleV2)
