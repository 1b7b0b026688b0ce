"""Classifiers on a network's middle maps: from each, copies of the network's own later stages, pooling, a linear layer.

As HSAKD has them (Yang et al., IJCAI 2021, Hierarchical Self-supervised Augmented Knowledge Distillation). The branch
on the last map has one more stage, which does not halve the size.
"""

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from sskd.errors import UserError
from sskd.networks.base import Features, Network, pool
from sskd.networks.build import build_network
from sskd.networks.mobilenetv2 import TAPS, InvertedResidual, MobileNetV2
from sskd.networks.resnet import BasicBlock, Bottleneck, ResNet, ResNet50, make_stage, residual_stages
from sskd.networks.shufflenet import ShuffleV1, ShuffleV2, V1Block, V2Block, V2Down
from sskd.networks.vgg import VGG, WIDTHS, make_block
from sskd.networks.wrn import Group, WideResNet


class AuxiliaryClassifier(nn.Module):
    """A map (B, C, H, W) to scores (B, wanted): later stages, what the network has before its pooling, a classifier."""

    def __init__(self, body: nn.Module, tail: nn.Module, width: int, wanted: int) -> None:
        super().__init__()
        self.body, self.tail = body, tail
        self.classifier = nn.Linear(width, wanted)

    def forward(self, maps: Tensor) -> Tensor:
        return self.classifier(pool(self.tail(self.body(maps))))


class AuxiliaryClassifiers(nn.ModuleList):
    """One branch for each map but the first convolution's; ``wanted`` scores each. UserError for a network whose stages
    are not known here."""

    def __init__(self, network: str, wanted: int) -> None:
        kind = _kind(network)
        copies = [build_network(network, 2)]
        copies += [build_network(network, 2) for _ in range(STAGES[kind] - 1)]
        made: list[Any] = [MAKE[kind](copy, level) for level, copy in enumerate(copies, start=1)]
        width = copies[0].classifier_layer.in_features
        super().__init__(AuxiliaryClassifier(body, tail, width, wanted) for body, tail in made)

    def read(self, features: Features) -> list[Tensor]:
        """Every branch's scores, (B, wanted) each, of one forward pass of the network."""
        return [branch(maps) for branch, maps in zip(self, features.feature_maps[-len(self) :], strict=True)]


def count_classifiers(network: str) -> int:
    """How many branches the network has. UserError if its stages are not known here."""
    return STAGES[_kind(network)]


def _kind(network: str) -> type[Network]:
    with torch.device("meta"):
        kind = type(build_network(network, 2))
    if kind not in STAGES:
        known = ", ".join(sorted(known.__name__ for known in STAGES))
        raise UserError(f"no branches are known for {network}: its stages would have to be copied (known: {known})")
    return kind


class _Residual(nn.Module):
    """Stages of blocks that give their sum before its ReLU."""

    def __init__(self, *stages: nn.Module) -> None:
        super().__init__()
        self.stages = nn.ModuleList(stages)

    def forward(self, x: Tensor) -> Tensor:
        return residual_stages(list(self.stages), x)[0][-1]


class _Shuffled(nn.Module):
    """ShuffleNet V2's blocks, which give a pair."""

    def __init__(self, *stages: nn.Module) -> None:
        super().__init__()
        self.stages = nn.ModuleList(stages)

    def forward(self, x: Tensor) -> Tensor:
        for stage in self.stages:
            for block in stage.children():
                x, _ = block(x)
        return x


class _Blocks(nn.Module):
    """VGG's blocks, a ReLU after each, max-pooling before those that the network has it before."""

    def __init__(self, blocks: Sequence[nn.Module], pooled: Sequence[bool]) -> None:
        super().__init__()
        self.blocks, self.pooled = nn.ModuleList(blocks), pooled

    def forward(self, x: Tensor) -> Tensor:
        for block, halves in zip(self.blocks, self.pooled, strict=True):
            x = F.relu(block(F.max_pool2d(x, 2, 2) if halves else x))
        return x


Made = tuple[nn.Module, nn.Module]  # body and tail of the branch on map ``level``, from 1


def _resnet(net: Any, level: int) -> Made:
    stages, last = [net.layer1, net.layer2, net.layer3], net.layer3
    width = net.fc.in_features
    later = stages[level:] or [make_stage(BasicBlock, width, width, len(last), 1, 1)]
    return _Residual(*later), nn.Identity()


def _resnet50(net: Any, level: int) -> Made:
    stages = [net.layer1, net.layer2, net.layer3, net.layer4]
    later = stages[level:] or [make_stage(Bottleneck, 2048, 512, len(net.layer4), 1, 4)]
    return _Residual(*later), nn.Identity()


def _shuffle_v1(net: Any, level: int) -> Made:
    width = net.linear.in_features
    later = [net.layer1, net.layer2, net.layer3][level:]
    return _Residual(*(later or [nn.Sequential(*(V1Block(width, width, 1) for _ in net.layer3))])), nn.Identity()


def _wrn(net: Any, level: int) -> Made:
    width = net.fc.in_features
    later = [net.block1, net.block2, net.block3][level:] or [Group(len(net.block3.layer), width, width, 1)]
    return nn.Sequential(*later), nn.Sequential(net.bn1, nn.ReLU(inplace=True))


def _vgg(net: Any, level: int) -> Made:
    blocks, halved = [getattr(net, f"block{number}") for number in range(5)], [False, True, True, True, False]
    if level < 4:
        return _Blocks(blocks[level:], halved[level:]), nn.Identity()
    convolutions = sum(isinstance(layer, nn.Conv2d) for layer in net.block3)
    return _Blocks([make_block(WIDTHS[3], WIDTHS[3], convolutions), net.block4], [False, False]), nn.Identity()


def _shuffle_v2(net: Any, level: int) -> Made:
    width = net.conv2.in_channels
    later = [net.layer1, net.layer2, net.layer3][level:]
    last = nn.Sequential(V2Down(width, width, stride=1), *(V2Block(width) for _ in list(net.layer3)[1:]))
    return _Shuffled(*(later or [last])), nn.Sequential(net.conv2, net.bn2, nn.ReLU(inplace=True))


def _mobilenet_v2(net: Any, level: int) -> Made:
    later = list(net.blocks)[TAPS[level - 1][1] :]
    if not later:
        width = net.conv2[0].in_channels
        narrow = [InvertedResidual(width if not number else width // 2, width // 2, 1, 6) for number in range(3)]
        later = [nn.Sequential(*narrow), nn.Sequential(InvertedResidual(width // 2, width, 1, 6))]
    return nn.Sequential(*later), net.conv2


STAGES: dict[type[Network], int] = {
    ResNet: 3,
    ResNet50: 4,
    WideResNet: 3,
    VGG: 4,
    ShuffleV1: 3,
    ShuffleV2: 3,
    MobileNetV2: 4,
}
MAKE: dict[type[Network], Callable[[Any, int], Made]] = {
    ResNet: _resnet,
    ResNet50: _resnet50,
    WideResNet: _wrn,
    VGG: _vgg,
    ShuffleV1: _shuffle_v1,
    ShuffleV2: _shuffle_v2,
    MobileNetV2: _mobilenet_v2,
}
