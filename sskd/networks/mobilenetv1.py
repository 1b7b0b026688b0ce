"""MobileNetV1 (Howard et al. 2017) at full width, for ImageNet: 4,231,976 parameters with 1000 classes.

The network of distillation papers since CRD's benchmark: a convolution and thirteen depthwise separable ones, each with
batch norm and ReLU, no dropout. Trained alone in 100 epochs it is published with 68.87 to 70.13 % top-1: the papers'
recipes differ.
"""

from typing import Any

from torch import Tensor, nn
from torch.nn import functional as F

from sskd.networks.base import NETWORKS, Features, Network, fan_out_init, pool

STEM = 32
BLOCKS = (  # channels, stride
    *((64, 1), (128, 2), (128, 1), (256, 2), (256, 1), (512, 2)),
    *((512, 1),) * 5,
    *((1024, 2), (1024, 1)),
)
ENDS = (2, 4, 10, 12)  # the last block at a quarter, an eighth, a sixteenth and a 32nd of the image's size


def _separable(in_channels: int, channels: int, stride: int) -> nn.Sequential:
    """A 3x3 convolution of each channel and a 1x1 convolution without its ReLU; methods ask for the map before it."""
    return nn.Sequential(
        nn.Conv2d(in_channels, in_channels, 3, stride, 1, groups=in_channels, bias=False),
        nn.BatchNorm2d(in_channels),
        nn.ReLU(inplace=True),
        nn.Conv2d(in_channels, channels, 1, bias=False),
        nn.BatchNorm2d(channels),
    )


class MobileNetV1(Network):
    """Feature maps: the stem, and the last block at each of four sizes."""

    def __init__(self, num_classes: int) -> None:
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(3, STEM, 3, 2, 1, bias=False), nn.BatchNorm2d(STEM))
        channels_of = (STEM, *(channels for channels, _ in BLOCKS))
        both = zip(channels_of, BLOCKS, strict=False)
        self.blocks = nn.ModuleList(_separable(before, channels, stride) for before, (channels, stride) in both)
        self.fc = nn.Linear(channels_of[-1], num_classes)
        fan_out_init(self)

    def map_norms(self) -> list[nn.BatchNorm2d]:
        blocks: Any = self.blocks
        return [blocks[number][-1] for number in ENDS]

    def features(self, images: Tensor) -> Features:
        total = self.stem(images)
        x = F.relu(total)
        maps, before = [x], [total]
        for number, block in enumerate(self.blocks):
            total = block(x)
            x = F.relu(total)
            if number in ENDS:
                maps.append(x)
                before.append(total)
        pooled = pool(x)
        return Features(self.fc(pooled), tuple(maps), pooled, tuple(before), x)


NETWORKS.register("mobilenet_v1")(MobileNetV1)
