"""torchvision's networks for ImageNet, with torchvision's names of networks and parameters."""

from typing import Any

from torch import Tensor, nn
from torch.nn import functional as F

from sskd.networks.base import NETWORKS, Features, Network, pool
from sskd.networks.zoo import torchvision_models


class _Torchvision(Network):
    """Has the children of torchvision's network, so that published weights load without renaming."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        for name, child in network.named_children():
            self.add_module(self.own_name(name), child)


class ImageNetResNet(_Torchvision):
    """Feature maps: the stem before its max pooling, and the four stages."""

    staged = True

    @property
    def stages(self) -> tuple[Any, ...]:
        """The stages in forward order."""
        net: Any = self
        return net.layer1, net.layer2, net.layer3, net.layer4

    def map_norms(self) -> list[nn.BatchNorm2d]:
        return [getattr(stage[-1], "bn3", stage[-1].bn2) for stage in self.stages]

    def run_stage(self, number: int, maps: Tensor) -> Tensor:
        entered = self.get_submodule("maxpool")(maps) if number == 1 else maps
        result: Tensor = self.stages[number - 1](entered)
        return result

    def features(self, images: Tensor) -> Features:
        net: Any = self
        stem = F.relu(net.bn1(net.conv1(images)), inplace=True)
        maps, before, x = [stem], [stem], net.maxpool(stem)
        for stage in self.stages:
            *blocks, last = stage.children()
            for block in blocks:
                x = block(x)
            total = _before_relu(last, x)
            x = F.relu(total)  # not in place: the sum is returned too
            maps.append(x)
            before.append(total)
        pooled = pool(x)
        return Features(net.fc(pooled), tuple(maps), pooled, tuple(before), x)


def _before_relu(block: Any, x: Tensor) -> Tensor:
    """Returns the output of torchvision's BasicBlock or Bottleneck before its last ReLU."""
    shortcut = x if block.downsample is None else block.downsample(x)
    x = F.relu(block.bn1(block.conv1(x)), inplace=True)
    x = block.bn2(block.conv2(x))
    if hasattr(block, "conv3"):
        x = block.bn3(block.conv3(F.relu(x, inplace=True)))
    return x + shortcut


class ImageNetMobileNetV2(_Torchvision):
    """Feature maps: the stem, the last block at 1/4, 1/8 and 1/16 of the image size (blocks end without a ReLU), and
    the last convolution."""

    tail = ("classifier",)
    ENDS = (3, 6, 13)

    def own_name(self, key: str) -> str:
        """Renames torchvision's "features", because here it is the name of a method."""
        return "layers" + key.removeprefix("features") if key.startswith("features") else key

    def features(self, images: Tensor) -> Features:
        layers = list(self.get_submodule("layers").children())
        maps, before, x = [], [], images
        for number, layer in enumerate(layers):
            if number in (0, len(layers) - 1):
                convolution, norm, _ = layer.children()
                total = norm(convolution(x))
                x = F.relu6(total)
                maps.append(x)
                before.append(total)
            else:
                x = layer(x)
                if number in self.ENDS:
                    maps.append(x)
                    before.append(x)
        pooled = pool(x)
        return Features(self.get_submodule("classifier")(pooled), tuple(maps), pooled, tuple(before), x)


def _register(name: str, kind: type[_Torchvision]) -> None:
    NETWORKS.register(name)(lambda num_classes: kind(torchvision_models().get_model(name, num_classes=num_classes)))


for _name in ("resnet18", "resnet34", "resnet50"):
    _register(_name, ImageNetResNet)
_register("mobilenet_v2", ImageNetMobileNetV2)
