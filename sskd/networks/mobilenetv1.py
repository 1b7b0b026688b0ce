"""MobileNetV1 (Howard et al. 2017) at full width, for ImageNet: 4,231,976 parameters with 1000 classes.

The student of distillation papers since CRD's benchmark: one convolution and thirteen depthwise separable ones, each
with batch norm and ReLU, no dropout. Published top-1 accuracies without a teacher, after 100 epochs, are 68.87 to 70.13
% (the papers' recipes differ).
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
ENDS = (2, 4, 10, 12)  # last blocks at 1/4, 1/8, 1/16 and 1/32 of the image size


def _separable(in_channels: int, channels: int, stride: int) -> nn.Sequential:
    """Depthwise 3x3 and pointwise 1x1 convolution, without the last ReLU: its input is a pre-activation map."""
    return nn.Sequential(
        nn.Conv2d(in_channels, in_channels, 3, stride, 1, groups=in_channels, bias=False),
        nn.BatchNorm2d(in_channels),
        nn.ReLU(inplace=True),
        nn.Conv2d(in_channels, channels, 1, bias=False),
        nn.BatchNorm2d(channels),
    )


class MobileNetV1(Network):
    """Feature maps: the stem, and the last block at each of four sizes. A stage is the blocks up to such a map."""

    staged = True

    def __init__(self, num_classes: int) -> None:
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(3, STEM, 3, 2, 1, bias=False), nn.BatchNorm2d(STEM))
        every = (STEM, *(channels for channels, _ in BLOCKS))
        self.blocks = nn.ModuleList(
            _separable(before, channels, stride) for before, (channels, stride) in zip(every, BLOCKS, strict=False)
        )
        self.fc = nn.Linear(every[-1], num_classes)
        fan_out_init(self)

    def map_norms(self) -> list[nn.BatchNorm2d]:
        blocks: Any = self.blocks
        return [blocks[number][-1] for number in ENDS]

    def run_stage(self, number: int, maps: Tensor) -> Tensor:
        first = 0 if number == 1 else ENDS[number - 2] + 1
        for block in list(self.blocks)[first : ENDS[number - 1] + 1]:
            maps = F.relu(block(maps))
        return maps

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
