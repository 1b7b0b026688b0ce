"""MobileNetV2 (Sandler et al. 2018) at half width with expansion 6, for CIFAR, as in CRD's benchmark."""

from torch import Tensor, nn

from sskd.networks.base import NETWORKS, Features, Network, fan_out_init, pool

STAGES = (  # expansion, channels (at full width), blocks, stride
    (1, 16, 1, 1),
    (6, 24, 2, 1),
    (6, 32, 3, 2),
    (6, 64, 4, 2),
    (6, 96, 3, 1),
    (6, 160, 3, 2),
    (6, 320, 1, 1),
)
MAP_STAGES = ((0, 2), (2, 3), (3, 5), (5, 7))  # stages between one feature map and the next
LAST = 1280


def _convolution(in_channels: int, channels: int, kernel: int, stride: int = 1, groups: int = 1) -> list[nn.Module]:
    return [
        nn.Conv2d(in_channels, channels, kernel, stride, kernel // 2, groups=groups, bias=False),
        nn.BatchNorm2d(channels),
    ]


class InvertedResidual(nn.Module):
    """1x1 expansion, depthwise 3x3, 1x1 projection; with a shortcut if input and output have the same shape."""

    def __init__(self, in_channels: int, channels: int, stride: int, expansion: int) -> None:
        super().__init__()
        hidden = expansion * in_channels
        self.shortcut = stride == 1 and in_channels == channels
        self.conv = nn.Sequential(
            *_convolution(in_channels, hidden, 1),
            nn.ReLU(inplace=True),
            *_convolution(hidden, hidden, 3, stride, groups=hidden),
            nn.ReLU(inplace=True),
            *_convolution(hidden, channels, 1),
        )

    def forward(self, x: Tensor) -> Tensor:
        return x + self.conv(x) if self.shortcut else self.conv(x)


class MobileNetV2(Network):
    """Blocks end without a ReLU, so the pre-activations equal the feature maps."""

    tail = ("conv2", "classifier")
    staged, stages_active = True, False

    def __init__(self, num_classes: int) -> None:
        super().__init__()
        in_channels = 16
        self.conv1 = nn.Sequential(*_convolution(3, in_channels, 3, 2), nn.ReLU(inplace=True))
        self.blocks = nn.ModuleList()
        for expansion, full, blocks, stride in STAGES:
            channels = full // 2
            stage = [InvertedResidual(in_channels, channels, stride, expansion)]
            stage += [InvertedResidual(channels, channels, 1, expansion) for _ in range(blocks - 1)]
            self.blocks.append(nn.Sequential(*stage))
            in_channels = channels
        self.conv2 = nn.Sequential(*_convolution(in_channels, LAST, 1), nn.ReLU(inplace=True))
        self.classifier = nn.Linear(LAST, num_classes)
        fan_out_init(self)
        nn.init.normal_(self.classifier.weight, 0, 0.01)
        nn.init.zeros_(self.classifier.bias)

    def run_stage(self, number: int, maps: Tensor) -> Tensor:
        for block in self.blocks[slice(*MAP_STAGES[number - 1])]:
            maps = block(maps)
        return self.conv2(maps) if number == len(MAP_STAGES) else maps

    def features(self, images: Tensor) -> Features:
        x = self.conv1(images)
        maps = [x]
        for start, stop in MAP_STAGES:
            for number in range(start, stop):
                x = self.blocks[number](x)
            maps.append(x)
        pre_pool = self.conv2(x)
        pooled = pool(pre_pool)
        return Features(self.classifier(pooled), tuple(maps), pooled, tuple(maps), pre_pool)


NETWORKS.register("MobileNetV2")(MobileNetV2)
