"""VGG with batch norm for CIFAR (Simonyan and Zisserman 2015; as in CRD): vgg8 ... vgg19."""

from torch import Tensor, nn
from torch.nn import functional as F

from sskd.networks.base import NETWORKS, Features, Network, fan_out_init, pool

LAYERS = {  # convolutions in each of the five blocks
    "vgg8": (1, 1, 1, 1, 1),
    "vgg11": (1, 1, 2, 2, 2),
    "vgg13": (2, 2, 2, 2, 2),
    "vgg16": (2, 2, 3, 3, 3),
    "vgg19": (2, 2, 4, 4, 4),
}
CHANNELS = (64, 128, 256, 512, 512)


def make_block(in_channels: int, channels: int, convolutions: int) -> nn.Sequential:
    """Returns 3x3 convolutions with batch norm and ReLU, without the last ReLU: its input is a pre-activation map."""
    layers: list[nn.Module] = []
    for number in range(convolutions):
        layers += [nn.ReLU(inplace=True)] if number else []
        layers += [nn.Conv2d(channels if number else in_channels, channels, 3, padding=1), nn.BatchNorm2d(channels)]
    return nn.Sequential(*layers)


class VGG(Network):
    """Five blocks. Max pooling follows the first three; the last two have maps of the same size."""

    tail = ("classifier",)
    staged, stages_active = True, False

    def __init__(self, convolutions: tuple[int, ...], num_classes: int) -> None:
        super().__init__()
        for number, (in_channels, channels) in enumerate(zip((3, *CHANNELS), CHANNELS, strict=False)):
            setattr(self, f"block{number}", make_block(in_channels, channels, convolutions[number]))
        self.classifier = nn.Linear(CHANNELS[-1], num_classes)
        fan_out_init(self)
        nn.init.normal_(self.classifier.weight, 0, 0.01)
        nn.init.zeros_(self.classifier.bias)

    def map_norms(self) -> list[nn.BatchNorm2d]:
        return [getattr(self, f"block{number}")[-1] for number in range(1, 5)]

    def run_stage(self, number: int, maps: Tensor) -> Tensor:
        active = F.relu(maps)
        return self.get_submodule(f"block{number}")(F.max_pool2d(active, 2, 2) if number <= 3 else active)

    def stage_maps(self, features: Features) -> tuple[Tensor, ...]:
        return features.preactivations[1:]

    def features(self, images: Tensor) -> Features:
        x, maps, before = images, [], []
        for number in range(5):
            if 1 <= number <= 3:
                x = F.max_pool2d(x, 2, 2)
            total = getattr(self, f"block{number}")(x)
            x = F.relu(total)
            maps.append(x)
            before.append(total)
        pooled = pool(x)
        return Features(self.classifier(pooled), tuple(maps), pooled, (maps[0], *before[1:]), x)


def _register(name: str) -> None:
    NETWORKS.register(name)(lambda num_classes: VGG(LAYERS[name], num_classes))


for _name in LAYERS:
    _register(_name)
