"""What a network is to the rest of the suite: logits, feature taps, and the layers before and after the last map."""

from collections.abc import Callable
from typing import NamedTuple

from torch import Tensor, nn

from sskd.config.networks import split_zoo
from sskd.errors import UserError
from sskd.networks import zoo
from sskd.registry import Registry


class Features(NamedTuple):
    """Results of one forward pass of B images.

    logits: (B, C). feature_maps: (B, channels, height, width) each, after their ReLU, in forward order. pooled: (B, D),
    the input of the classifier. preactivations: the feature maps before their ReLU; a map that follows no ReLU is
    repeated. pre_pool: (B, D, height, width), the map whose spatial mean is ``pooled``, or None if the network does not
    give it. It differs from the last feature map if a convolution, or a norm and a ReLU, lie between.
    """

    logits: Tensor
    feature_maps: tuple[Tensor, ...]
    pooled: Tensor
    preactivations: tuple[Tensor, ...]
    pre_pool: Tensor | None = None

    def map(self, transform: Callable[..., Tensor], kept: frozenset[str], *others: "Features") -> "Features":
        """Applies ``transform`` to the logits, the pooled features, and the kinds of maps that ``kept`` names
        ("feature_maps", "preactivations", "pre_pool"); drops the other maps.

        With ``others``, ``transform`` gets each tensor and the corresponding tensor of each of the others.
        """
        every = (self, *others)

        def each(kind: Callable[[Features], tuple[Tensor, ...]]) -> tuple[Tensor, ...]:
            return tuple(transform(*same) for same in zip(*map(kind, every), strict=True))

        logits, pooled = each(lambda features: (features.logits, features.pooled))
        maps = each(lambda features: features.feature_maps) if "feature_maps" in kept else ()
        preactivations = each(lambda features: features.preactivations) if "preactivations" in kept else ()
        pre_pools = [features.pre_pool for features in every if features.pre_pool is not None]
        pre_pool = transform(*pre_pools) if pre_pools and "pre_pool" in kept else None
        return Features(logits, maps, pooled, preactivations, pre_pool)


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
        assert features.pre_pool is not None
        return (*features.feature_maps[1:-1], features.pre_pool)

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
        if isinstance(name, str) and split_zoo(name)[0]:
            zoo.check_name(name)
            return lambda num_classes: zoo.make(name, num_classes, None).module
        return super().__getitem__(name)


NETWORKS = NetworkRegistry("network", "sskd.networks")


class FeatureShapes(NamedTuple):
    """Shapes of one image's features, and what else a method must know of a network before it is built."""

    network: str
    feature_maps: tuple[tuple[int, ...], ...]  # (channels, height, width) each, in forward order
    embed_dim: int  # D, the number of pooled features
    pre_pool: tuple[int, ...] | None = None  # (D, height, width), if the network gives this map
    preactivations: bool = True  # whether the network gives maps before their ReLU
    norms: int = 0  # how many map_norms() the network has
    staged: bool = False  # whether the network's single stages can be run
