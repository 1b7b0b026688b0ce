"""CIFAR ResNets (He et al. 2016): resnet8 ... resnet110 with basic blocks, the four-times-wide resnet8x4 and
resnet32x4, and ResNet50 with bottlenecks. Parameter names are those of the published checkpoints."""

from collections.abc import Sequence

from torch import Tensor, nn
from torch.nn import functional as F

from sskd.networks.base import NETWORKS, Features, Network, fan_out_init, pool


class BasicBlock(nn.Module):
    """Two 3x3 convolutions around a shortcut. Gives the sum *before* its ReLU: the stage applies it."""

    def __init__(self, width_in: int, width: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(width_in, width, 3, stride, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        self.conv2 = nn.Conv2d(width, width, 3, 1, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(width)
        self.downsample = _projection(width_in, width, stride)

    def forward(self, x: Tensor) -> Tensor:
        out = F.relu(self.bn1(self.conv1(x)), inplace=True)
        return self.bn2(self.conv2(out)) + (x if self.downsample is None else self.downsample(x))


class Bottleneck(nn.Module):
    """1x1, 3x3, 1x1 convolutions around a shortcut, four times as wide outside. Gives the sum before its ReLU."""

    def __init__(self, width_in: int, width: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(width_in, width, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        self.conv2 = nn.Conv2d(width, width, 3, stride, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(width)
        self.conv3 = nn.Conv2d(width, 4 * width, 1, bias=False)
        self.bn3 = nn.BatchNorm2d(4 * width)
        self.shortcut = _projection(width_in, 4 * width, stride) or nn.Sequential()

    def forward(self, x: Tensor) -> Tensor:
        out = F.relu(self.bn1(self.conv1(x)), inplace=True)
        out = F.relu(self.bn2(self.conv2(out)), inplace=True)
        return self.bn3(self.conv3(out)) + self.shortcut(x)


def _projection(width_in: int, width: int, stride: int) -> nn.Sequential | None:
    if stride == 1 and width_in == width:
        return None
    return nn.Sequential(nn.Conv2d(width_in, width, 1, stride, bias=False), nn.BatchNorm2d(width))


def make_stage(
    block: type[nn.Module], width_in: int, width: int, blocks: int, stride: int, expansion: int
) -> nn.Sequential:
    """``blocks`` blocks whose outputs have ``expansion * width`` channels; only the first strides."""
    first = block(width_in, width, stride)
    return nn.Sequential(first, *(block(expansion * width, width, 1) for _ in range(blocks - 1)))


def residual_stages(stages: Sequence[nn.Module], x: Tensor) -> tuple[list[Tensor], list[Tensor]]:
    """Each stage's output after and before its last ReLU, starting from ``x``."""
    maps, before = [], []
    for stage in stages:
        *blocks, last = stage.children()
        for block in blocks:
            x = F.relu(block(x), inplace=True)
        total = last(x)
        x = F.relu(total)  # not in place: the sum is a tap too
        maps.append(x)
        before.append(total)
    return maps, before


class ResNet(Network):
    """Basic blocks in three stages of ``blocks`` each; widths: of the stem and of the stages."""

    staged = True

    def __init__(self, blocks: int, widths: tuple[int, int, int, int], num_classes: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(3, widths[0], 3, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(widths[0])
        self.layer1 = make_stage(BasicBlock, widths[0], widths[1], blocks, 1, 1)
        self.layer2 = make_stage(BasicBlock, widths[1], widths[2], blocks, 2, 1)
        self.layer3 = make_stage(BasicBlock, widths[2], widths[3], blocks, 2, 1)
        self.fc = nn.Linear(widths[3], num_classes)
        fan_out_init(self)

    def map_norms(self) -> list[nn.BatchNorm2d]:
        return [stage[-1].bn2 for stage in (self.layer1, self.layer2, self.layer3)]  # type: ignore[misc]

    def run_stage(self, number: int, maps: Tensor) -> Tensor:
        return residual_stages([self.get_submodule(f"layer{number}")], maps)[0][0]

    def features(self, images: Tensor) -> Features:
        stem = F.relu(self.bn1(self.conv1(images)), inplace=True)
        maps, before = residual_stages([self.layer1, self.layer2, self.layer3], stem)
        pooled = pool(maps[-1])
        return Features(self.fc(pooled), (stem, *maps), pooled, (stem, *before), maps[-1])


class ResNet50(Network):
    """Bottlenecks in four stages (3, 4, 6, 3) for 32 x 32 images: no striding in the stem or the first stage."""

    tail = ("linear",)
    staged = True

    def __init__(self, num_classes: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(3, 64, 3, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(64)
        self.layer1 = make_stage(Bottleneck, 64, 64, 3, 1, 4)
        self.layer2 = make_stage(Bottleneck, 256, 128, 4, 2, 4)
        self.layer3 = make_stage(Bottleneck, 512, 256, 6, 2, 4)
        self.layer4 = make_stage(Bottleneck, 1024, 512, 3, 2, 4)
        self.linear = nn.Linear(2048, num_classes)
        fan_out_init(self)

    def map_norms(self) -> list[nn.BatchNorm2d]:
        return [stage[-1].bn3 for stage in (self.layer1, self.layer2, self.layer3, self.layer4)]  # type: ignore[misc]

    def run_stage(self, number: int, maps: Tensor) -> Tensor:
        return residual_stages([self.get_submodule(f"layer{number}")], maps)[0][0]

    def features(self, images: Tensor) -> Features:
        stem = F.relu(self.bn1(self.conv1(images)), inplace=True)
        maps, before = residual_stages([self.layer1, self.layer2, self.layer3, self.layer4], stem)
        pooled = pool(maps[-1])
        return Features(self.linear(pooled), (stem, *maps), pooled, (stem, *before), maps[-1])


def _register(name: str, depth: int, widths: tuple[int, int, int, int]) -> None:
    NETWORKS.register(name)(lambda num_classes: ResNet((depth - 2) // 6, widths, num_classes))


for _depth in (8, 14, 20, 32, 44, 56, 110):
    _register(f"resnet{_depth}", _depth, (16, 16, 32, 64))
for _depth in (8, 32):
    _register(f"resnet{_depth}x4", _depth, (32, 64, 128, 256))
NETWORKS.register("ResNet50")(ResNet50)
