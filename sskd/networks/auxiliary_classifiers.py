"""Auxiliary classifiers of HSAKD (Yang et al., IJCAI 2021): on each feature map, copies of the network's later stages,
pooling and a linear layer. The classifier on the last map has one additional stage without stride."""

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from sskd.errors import UserError
from sskd.networks.base import Features, Network, pool
from sskd.networks.build import build_network
from sskd.networks.mobilenetv2 import MAP_STAGES, InvertedResidual, MobileNetV2
from sskd.networks.resnet import ResNet, ResNet50, make_stage, residual_stages
from sskd.networks.shufflenet import ShuffleV1, ShuffleV2, V1Block, V2Block, V2Down, shuffled_stages
from sskd.networks.vgg import CHANNELS, VGG, make_block
from sskd.networks.wrn import Group, WideResNet


class AuxiliaryClassifier(nn.Module):
    """Maps (B, C, H, W) to scores (B, num_outputs). body: later stages; tail: the network's layers before its
    pooling."""

    def __init__(self, body: nn.Module, tail: nn.Module, channels: int, num_outputs: int) -> None:
        super().__init__()
        self.body, self.tail = body, tail
        self.classifier = nn.Linear(channels, num_outputs)

    def forward(self, maps: Tensor) -> Tensor:
        return self.classifier(pool(self.tail(self.body(maps))))


class AuxiliaryClassifiers(nn.ModuleList):
    """One classifier with ``num_outputs`` scores for each feature map but the first. Raises UserError for networks
    that FAMILIES does not list."""

    def __init__(self, network: str, num_outputs: int) -> None:
        count, make = _family(network)
        copies = [build_network(network, 2) for _ in range(count)]
        made = [make(copy, level) for level, copy in enumerate(copies, start=1)]
        channels = copies[0].classifier_layer.in_features
        super().__init__(AuxiliaryClassifier(body, tail, channels, num_outputs) for body, tail in made)

    def read(self, features: Features) -> list[Tensor]:
        """Returns each classifier's scores (B, num_outputs) for the features of one forward pass."""
        return [classifier(maps) for classifier, maps in zip(self, features.feature_maps[-len(self) :], strict=True)]


def count_classifiers(network: str) -> int:
    """Returns the network's number of auxiliary classifiers. Raises UserError if FAMILIES does not list it."""
    return _family(network)[0]


class _Stages(nn.Module):
    """Stages that one function runs, of residual or shuffled blocks."""

    def __init__(self, run: Callable[..., tuple[list[Tensor], list[Tensor]]], *stages: nn.Module) -> None:
        super().__init__()
        self.run, self.stages = run, nn.ModuleList(stages)

    def forward(self, x: Tensor) -> Tensor:
        return self.run(list(self.stages), x)[0][-1]


class _Blocks(nn.Module):
    """VGG's blocks, each followed by a ReLU. pooled: whether max pooling precedes the block."""

    def __init__(self, blocks: Sequence[nn.Module], pooled: Sequence[bool]) -> None:
        super().__init__()
        self.blocks, self.pooled = nn.ModuleList(blocks), pooled

    def forward(self, x: Tensor) -> Tensor:
        for block, halves in zip(self.blocks, self.pooled, strict=True):
            x = F.relu(block(F.max_pool2d(x, 2, 2) if halves else x))
        return x


Made = tuple[nn.Module, nn.Module]  # body and tail of the classifier on map ``level`` (from 1)


def _resnet(net: Any, level: int) -> Made:
    channels, last = net.classifier_layer.in_features, net.stages[-1]
    more = (net.block, channels, channels // net.expansion, len(last), 1, net.expansion)
    return _Stages(residual_stages, *(net.stages[level:] or [make_stage(*more)])), nn.Identity()


def _shuffle_v1(net: Any, level: int) -> Made:
    channels = net.linear.in_features
    later = [net.layer1, net.layer2, net.layer3][level:]
    last = [] if later else [nn.Sequential(*(V1Block(channels, channels, 1) for _ in net.layer3))]
    return _Stages(residual_stages, *later, *last), nn.Identity()


def _wrn(net: Any, level: int) -> Made:
    channels = net.fc.in_features
    later = [net.block1, net.block2, net.block3][level:] or [Group(len(net.block3.layer), channels, channels, 1)]
    return nn.Sequential(*later), nn.Sequential(net.bn1, nn.ReLU(inplace=True))


def _vgg(net: Any, level: int) -> Made:
    blocks, halved = [getattr(net, f"block{number}") for number in range(5)], [False, True, True, True, False]
    if level < 4:
        return _Blocks(blocks[level:], halved[level:]), nn.Identity()
    convolutions = sum(isinstance(layer, nn.Conv2d) for layer in net.block3)
    return _Blocks([make_block(CHANNELS[3], CHANNELS[3], convolutions), net.block4], [False, False]), nn.Identity()


def _shuffle_v2(net: Any, level: int) -> Made:
    channels = net.conv2.in_channels
    later = [net.layer1, net.layer2, net.layer3][level:]
    last = nn.Sequential(V2Down(channels, channels, stride=1), *(V2Block(channels) for _ in list(net.layer3)[1:]))
    return _Stages(shuffled_stages, *(later or [last])), nn.Sequential(net.conv2, net.bn2, nn.ReLU(inplace=True))


def _mobilenet_v2(net: Any, level: int) -> Made:
    later = list(net.blocks)[MAP_STAGES[level - 1][1] :]
    if not later:
        channels = net.conv2[0].in_channels
        narrow = [
            InvertedResidual(channels if not number else channels // 2, channels // 2, 1, 6) for number in range(3)
        ]
        later = [nn.Sequential(*narrow), nn.Sequential(InvertedResidual(channels // 2, channels, 1, 6))]
    return nn.Sequential(*later), net.conv2


# number of auxiliary classifiers, and the function that makes one
FAMILIES: dict[type[Network], tuple[int, Callable[[Any, int], Made]]] = {
    ResNet: (3, _resnet),
    ResNet50: (4, _resnet),
    WideResNet: (3, _wrn),
    VGG: (4, _vgg),
    ShuffleV1: (3, _shuffle_v1),
    ShuffleV2: (3, _shuffle_v2),
    MobileNetV2: (4, _mobilenet_v2),
}


def _family(network: str) -> tuple[int, Callable[[Any, int], Made]]:
    with torch.device("meta"):
        kind = type(build_network(network, 2))
    if kind not in FAMILIES:
        known = ", ".join(sorted(known.__name__ for known in FAMILIES))
        raise UserError(f"no auxiliary classifiers are defined for {network}: choose a network of {known}")
    return FAMILIES[kind]
