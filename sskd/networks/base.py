"""What a network is to the rest of the suite: logits, feature taps, and the layers before and after the last map."""

from collections.abc import Callable
from typing import NamedTuple

from torch import Tensor, nn

from sskd.config.networks import split_library
from sskd.errors import UserError
from sskd.networks import library
from sskd.registry import Registry


class Features(NamedTuple):
    """One forward pass of B images.

    logits: (B, C). taps: the feature maps (B, channels, height, width) after their ReLU in forward order, and last
    the pooled vector (B, D) that enters the classifier. preactivations: the same taps before the ReLU (the tap
    itself where there is no such point). final: the map (B, D, height, width) whose mean is the pooled vector; it
    differs from the last tap where a convolution, or a norm and ReLU, come between. None if the network does not say.
    """

    logits: Tensor
    taps: tuple[Tensor, ...]
    preactivations: tuple[Tensor, ...]
    final: Tensor | None = None

    @property
    def vector(self) -> Tensor:
        """The pooled features, (B, D)."""
        return self.taps[-1]

    @property
    def maps(self) -> tuple[Tensor, ...]:
        """All taps but the pooled vector."""
        return self.taps[:-1]

    def map(self, change: Callable[..., Tensor], needs: frozenset[str], *others: "Features") -> "Features":
        """The features with ``change`` applied to the logits, the pooled vector, and each kind of maps that ``needs``
        names ("taps", "preactivations", "final"); the other maps are dropped.

        With ``others``, ``change`` gets each tensor of these features and the same tensor of each of the others.
        """
        every = (self, *others)

        def each(kind: Callable[[Features], tuple[Tensor, ...]]) -> tuple[Tensor, ...]:
            return tuple(change(*same) for same in zip(*map(kind, every), strict=True))

        logits, vector = each(lambda features: (features.logits, features.vector))
        maps = each(lambda features: features.maps) if "taps" in needs else ()
        preactivations = each(lambda features: features.preactivations) if "preactivations" in needs else ()
        finals = [features.final for features in every if features.final is not None]
        final = change(*finals) if finals and "final" in needs else None
        return Features(logits, (*maps, vector), preactivations, final)


class Network(nn.Module):
    """A backbone with a classifier. ``net(x)`` gives logits, ``net.features(x)`` everything a method may ask for.

    ``tail`` names the child modules that come after the last feature map (a last convolution where there is one, and
    last the classifier): a method that first trains "the feature layers" leaves these alone.
    """

    tail: tuple[str, ...] = ("fc",)
    foldable: bool = True  # whether its features() can be traced: see folded.py
    staged: bool = False  # whether single stages can be run: run_stage()
    stages_active: bool = True  # whether their maps have been through a ReLU
    gives_preactivations: bool = True  # False: its taps have no maps before their ReLU beside them
    registered_as: str = ""  # the name that ``build_network`` has built it by

    def feature_layers(self) -> list[nn.Module]:
        """The children up to the last feature map: all but the tail."""
        return [child for name, child in self.named_children() if name not in self.tail]

    @property
    def classifier_layer(self) -> nn.Linear:
        """The layer from the pooled vector to the logits: the last of the tail, or the linear layer in it. UserError if
        that is no linear layer."""
        layers = [layer for layer in self.get_submodule(self.tail[-1]).modules() if isinstance(layer, nn.Linear)]
        if not layers:
            raise UserError(f"the last of {type(self).__name__}.tail, '{self.tail[-1]}', is no linear classifier")
        return layers[-1]

    def map_norms(self) -> list[nn.BatchNorm2d]:
        """The batch norm in front of the ReLU of each map but the first, in forward order; empty where the network does
        not say."""
        return []

    def run_stage(self, number: int, maps: Tensor) -> Tensor:
        """Returns what stage ``number`` (from 1) makes of the map before it, where the network is ``staged``. The last
        stage's map is the one that is pooled, perhaps before its ReLU."""
        raise NotImplementedError

    def stage_maps(self, features: Features) -> tuple[Tensor, ...]:
        """Returns the stages' maps, without the stem's, as ``run_stage`` takes and gives them."""
        assert features.final is not None
        return (*features.maps[1:-1], features.final)

    def own_name(self, key: str) -> str:
        """This network's name for a parameter that its published weights call ``key``."""
        return key

    def features(self, images: Tensor) -> Features:
        """images: (B, 3, H, W), normalised. 32 x 32 as published; other sizes through adaptive pooling."""
        raise NotImplementedError

    def forward(self, images: Tensor) -> Tensor:
        return self.features(images).logits


def pool(features: Tensor) -> Tensor:
    """Mean over all positions, (B, C, H, W) to (B, C): whatever the size of the images."""
    return features.mean((2, 3))


def fan_out_init(network: nn.Module) -> None:
    """He's normal initialisation by fan-out for convolutions, their biases zero (as CRD's networks)."""
    for module in network.modules():
        if isinstance(module, nn.Conv2d) and not module.weight.is_meta:  # plans want shapes alone, of many networks
            nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
            if module.bias is not None:
                nn.init.zeros_(module.bias)


class NetworkRegistry(Registry[Callable[[int], nn.Module]]):
    """Networks by name: those that are registered, from a number of classes to a Network or to any module with logits,
    and "torchvision:NAME" and "timm:NAME"."""

    def __getitem__(self, name: str) -> Callable[[int], nn.Module]:
        if isinstance(name, str) and split_library(name)[0]:
            library.check_name(name)
            return lambda num_classes: library.make(name, num_classes, None).module
        return super().__getitem__(name)


NETWORKS = NetworkRegistry("network", "sskd.networks")


class FeatureShapes(NamedTuple):
    """Shapes of one image's features: (channels, height, width) for maps, (D,) for the pooled vector, last."""

    network: str
    taps: tuple[tuple[int, ...], ...]
    final: tuple[int, ...] | None = None  # of the map that is pooled to the vector, where the network gives it
    preactivations: bool = True  # whether the network gives maps before their ReLU
    norms: int = 0  # how many map_norms() the network has
    staged: bool = False  # whether the network's single stages can be run

    @property
    def width(self) -> int:
        """D, the length of the pooled vector."""
        return self.taps[-1][0]

    @property
    def maps(self) -> tuple[tuple[int, ...], ...]:
        """(channels, height, width) of each tap but the vector, from the image on."""
        return self.taps[:-1]
