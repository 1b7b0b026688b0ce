"""MobileNetV2 (Sandler et al. 2018) at half width with expansion 6, for CIFAR, as in CRD's benchmark."""

from torch import Tensor, nn

from sskd.networks.base import NETWORKS, Features, Network, fan_out_init, pool

STAGES = (  # expansion, width (before halving), blocks, stride
    (1, 16, 1, 1),
    (6, 24, 2, 1),
    (6, 32, 3, 2),
    (6, 64, 4, 2),
    (6, 96, 3, 1),
    (6, 160, 3, 2),
    (6, 320, 1, 1),
)
TAPS = ((0, 2), (2, 3), (3, 5), (5, 7))  # which stages lie between one tap and the next
LAST = 1280


def _convolution(width_in: int, width: int, kernel: int, stride: int = 1, groups: int = 1) -> list[nn.Module]:
    return [
        nn.Conv2d(width_in, width, kernel, stride, kernel // 2, groups=groups, bias=False),
        nn.BatchNorm2d(width),
    ]


class InvertedResidual(nn.Module):
    """Expand, convolve each channel, project; a shortcut where shapes agree."""

    def __init__(self, width_in: int, width: int, stride: int, expansion: int) -> None:
        super().__init__()
        hidden = expansion * width_in
        self.shortcut = stride == 1 and width_in == width
        self.conv = nn.Sequential(
            *_convolution(width_in, hidden, 1),
            nn.ReLU(inplace=True),
            *_convolution(hidden, hidden, 3, stride, groups=hidden),
            nn.ReLU(inplace=True),
            *_convolution(hidden, width, 1),
        )

    def forward(self, x: Tensor) -> Tensor:
        return x + self.conv(x) if self.shortcut else self.conv(x)


class MobileNetV2(Network):
    """Blocks end without a ReLU, so taps before and after it are the same."""

    tail = ("conv2", "classifier")
    staged, stages_active = True, False

    def __init__(self, num_classes: int) -> None:
        super().__init__()
        width_in = 16
        self.conv1 = nn.Sequential(*_convolution(3, width_in, 3, 2), nn.ReLU(inplace=True))
        self.blocks = nn.ModuleList()
        for expansion, full_width, blocks, stride in STAGES:
            width = full_width // 2
            stage = [InvertedResidual(width_in, width, stride, expansion)]
            stage += [InvertedResidual(width, width, 1, expansion) for _ in range(blocks - 1)]
            self.blocks.append(nn.Sequential(*stage))
            width_in = width
        self.conv2 = nn.Sequential(*_convolution(width_in, LAST, 1), nn.ReLU(inplace=True))
        self.classifier = nn.Linear(LAST, num_classes)
        fan_out_init(self)
        nn.init.normal_(self.classifier.weight, 0, 0.01)
        nn.init.zeros_(self.classifier.bias)

    def run_stage(self, number: int, maps: Tensor) -> Tensor:
        for block in self.blocks[slice(*TAPS[number - 1])]:
            maps = block(maps)
        return self.conv2(maps) if number == len(TAPS) else maps

    def features(self, images: Tensor) -> Features:
        x = self.conv1(images)
        maps = [x]
        for start, stop in TAPS:
            for number in range(start, stop):
                x = self.blocks[number](x)
            maps.append(x)
        pre_pool = self.conv2(x)
        pooled = pool(pre_pool)
        return Features(self.classifier(pooled), tuple(maps), pooled, tuple(maps), pre_pool)


NETWORKS.register("MobileNetV2")(MobileNetV2)
