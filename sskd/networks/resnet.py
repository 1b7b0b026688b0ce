"""CIFAR ResNets (He et al. 2016): resnet8 to resnet110 with basic blocks, the four times wider resnet8x4 and
resnet32x4, and ResNet50 with bottlenecks. Parameters have the names of CRD's published checkpoints."""

from collections.abc import Sequence
from typing import Any

from torch import Tensor, nn
from torch.nn import functional as F

from sskd.networks.base import NETWORKS, Features, Network, fan_out_init, pool


class BasicBlock(nn.Module):
    """Two 3x3 convolutions with a shortcut. Returns the sum before its ReLU, which the stage applies."""

    def __init__(self, in_channels: int, channels: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(in_channels, channels, 3, stride, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(channels)
        self.conv2 = nn.Conv2d(channels, channels, 3, 1, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(channels)
        self.downsample = _projection(in_channels, channels, stride)

    def forward(self, x: Tensor) -> Tensor:
        out = F.relu(self.bn1(self.conv1(x)), inplace=True)
        return self.bn2(self.conv2(out)) + (x if self.downsample is None else self.downsample(x))


class Bottleneck(nn.Module):
    """1x1, 3x3 and 1x1 convolutions with a shortcut; 4 * channels outputs. Returns the sum before its ReLU."""

    def __init__(self, in_channels: int, channels: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(in_channels, channels, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(channels)
        self.conv2 = nn.Conv2d(channels, channels, 3, stride, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(channels)
        self.conv3 = nn.Conv2d(channels, 4 * channels, 1, bias=False)
        self.bn3 = nn.BatchNorm2d(4 * channels)
        self.shortcut = _projection(in_channels, 4 * channels, stride) or nn.Sequential()

    def forward(self, x: Tensor) -> Tensor:
        out = F.relu(self.bn1(self.conv1(x)), inplace=True)
        out = F.relu(self.bn2(self.conv2(out)), inplace=True)
        return self.bn3(self.conv3(out)) + self.shortcut(x)


def _projection(in_channels: int, channels: int, stride: int) -> nn.Sequential | None:
    if stride == 1 and in_channels == channels:
        return None
    return nn.Sequential(nn.Conv2d(in_channels, channels, 1, stride, bias=False), nn.BatchNorm2d(channels))


def make_stage(
    block: type[nn.Module], in_channels: int, channels: int, blocks: int, stride: int, expansion: int
) -> nn.Sequential:
    """Returns ``blocks`` blocks with ``expansion * channels`` output channels; only the first has the stride."""
    first = block(in_channels, channels, stride)
    return nn.Sequential(first, *(block(expansion * channels, channels, 1) for _ in range(blocks - 1)))


def residual_stages(stages: Sequence[nn.Module], x: Tensor) -> tuple[list[Tensor], list[Tensor]]:
    """Runs the stages on ``x`` and returns their outputs after and before the last ReLU."""
    maps, before = [], []
    for stage in stages:
        *blocks, last = stage.children()
        for block in blocks:
            x = F.relu(block(x), inplace=True)
        total = last(x)
        x = F.relu(total)  # not in place: the sum is returned too
        maps.append(x)
        before.append(total)
    return maps, before


class ResNet(Network):
    """A stem without stride, and stages of blocks; each stage after the first halves the size. blocks: of each stage.
    channels: of the stem, and of each stage before the expansion."""

    staged = True
    block: type[nn.Module] = BasicBlock
    expansion = 1  # output channels of a block by its channels

    def __init__(self, blocks: Sequence[int], channels: Sequence[int], num_classes: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(3, channels[0], 3, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(channels[0])
        width = channels[0]
        for number, (count, own) in enumerate(zip(blocks, channels[1:], strict=True), 1):
            stage = make_stage(self.block, width, own, count, 1 if number == 1 else 2, self.expansion)
            self.add_module(f"layer{number}", stage)
            width = self.expansion * own
        self.add_module(self.tail[-1], nn.Linear(width, num_classes))
        fan_out_init(self)

    @property
    def stages(self) -> list[Any]:
        """The stages in forward order."""
        return [self.layer1, self.layer2, self.layer3]

    def map_norms(self) -> list[nn.BatchNorm2d]:
        return [getattr(stage[-1], "bn3", stage[-1].bn2) for stage in self.stages]

    def run_stage(self, number: int, maps: Tensor) -> Tensor:
        return residual_stages(self.stages[number - 1 : number], maps)[0][0]

    def features(self, images: Tensor) -> Features:
        stem = F.relu(self.bn1(self.conv1(images)), inplace=True)
        maps, before = residual_stages(self.stages, stem)
        pooled = pool(maps[-1])
        logits = self.get_submodule(self.tail[-1])(pooled)
        return Features(logits, (stem, *maps), pooled, (stem, *before), maps[-1])


class ResNet50(ResNet):
    """Four stages of bottlenecks (3, 4, 6, 3) for 32 x 32 images."""

    tail = ("linear",)
    block, expansion = Bottleneck, 4

    def __init__(self, num_classes: int) -> None:
        super().__init__((3, 4, 6, 3), (64, 64, 128, 256, 512), num_classes)

    @property
    def stages(self) -> list[Any]:
        return [*super().stages, self.layer4]


def _register(name: str, depth: int, channels: tuple[int, int, int, int]) -> None:
    NETWORKS.register(name)(lambda num_classes: ResNet([(depth - 2) // 6] * 3, channels, num_classes))


for _depth in (8, 14, 20, 32, 44, 56, 110):
    _register(f"resnet{_depth}", _depth, (16, 16, 32, 64))
for _depth in (8, 32):
    _register(f"resnet{_depth}x4", _depth, (32, 64, 128, 256))
NETWORKS.register("ResNet50")(ResNet50)
