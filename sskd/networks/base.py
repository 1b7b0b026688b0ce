"""Interface of networks (logits, feature maps, pooled features, stages) and the registry of their names."""

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
    """A backbone with a classifier: ``net(x)`` returns logits, ``net.features(x)`` returns ``Features``.

    ``tail`` names the child modules after the last feature map; the classifier is the last of them. Methods that first
    train the feature layers do not train the tail.
    """

    tail: tuple[str, ...] = ("fc",)
    foldable: bool = True  # whether torch.fx can trace features(): see folded.py
    staged: bool = False  # whether run_stage() is implemented
    stages_active: bool = True  # whether stage_maps() are taken after the ReLU
    gives_preactivations: bool = True  # False: Features.preactivations repeats the feature maps
    registered_as: str = ""  # the name given to ``build_network``

    def feature_layers(self) -> list[nn.Module]:
        """Returns the child modules up to the last feature map, that is, without the tail."""
        return [child for name, child in self.named_children() if name not in self.tail]

    @property
    def classifier_layer(self) -> nn.Linear:
        """Linear layer from the pooled features to the logits: the last linear layer of the tail's last module. Raises
        UserError if there is none."""
        layers = [layer for layer in self.get_submodule(self.tail[-1]).modules() if isinstance(layer, nn.Linear)]
        if not layers:
            raise UserError(
                f"{type(self).__name__}.tail: '{self.tail[-1]}' has no linear layer; the classifier must be the last"
            )
        return layers[-1]

    def map_norms(self) -> list[nn.BatchNorm2d]:
        """Returns the batch norm before the ReLU of each feature map but the first, in forward order; an empty list if
        the network does not define them."""
        return []

    def run_stage(self, number: int, maps: Tensor) -> Tensor:
        """Returns the output of stage ``number`` (from 1) for the map (B, C, H, W) of the stage before it. Implemented
        if ``staged``. The last stage's output is the map that is pooled, possibly before its ReLU."""
        raise NotImplementedError

    def stage_maps(self, features: Features) -> tuple[Tensor, ...]:
        """Returns the maps after each stage (not the stem), as ``run_stage`` takes and returns them."""
        assert features.pre_pool is not None
        return (*features.feature_maps[1:-1], features.pre_pool)

    def own_name(self, key: str) -> str:
        """Returns this network's name of the parameter that the published weights call ``key``."""
        return key

    def features(self, images: Tensor) -> Features:
        """Returns the features of images (B, 3, H, W), normalised; any H and W are possible, as maps are averaged."""
        raise NotImplementedError

    def forward(self, images: Tensor) -> Tensor:
        return self.features(images).logits


def pool(features: Tensor) -> Tensor:
    """Returns the spatial mean of maps: (B, C, H, W) to (B, C)."""
    return features.mean((2, 3))


def fan_out_init(network: nn.Module) -> None:
    """Initialises convolutions with He's normal distribution (fan-out) and zero biases, as in CRD's code."""
    for module in network.modules():
        if (
            isinstance(module, nn.Conv2d) and not module.weight.is_meta
        ):  # planning builds many networks for their shapes only
            nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
            if module.bias is not None:
                nn.init.zeros_(module.bias)


class NetworkRegistry(Registry[Callable[[int], nn.Module]]):
    """Registry of networks. An entry maps the number of classes to a Network or any module that returns logits. The
    names "torchvision:NAME" and "timm:NAME" need no registration."""

    def __getitem__(self, name: str) -> Callable[[int], nn.Module]:
        if isinstance(name, str) and split_zoo(name)[0]:
            zoo.check_name(name)
            return lambda num_classes: zoo.make(name, num_classes, None).module
        return super().__getitem__(name)


NETWORKS = NetworkRegistry("network", "sskd.networks")


class FeatureShapes(NamedTuple):
    """Shapes of the features of one image, and properties of the network that methods check before training."""

    network: str
    feature_maps: tuple[tuple[int, ...], ...]  # (channels, height, width) each, in forward order
    embed_dim: int  # D, the number of pooled features
    pre_pool: tuple[int, ...] | None = None  # (D, height, width), if the network gives this map
    preactivations: bool = True  # whether the network gives maps before their ReLU
    norms: int = 0  # how many map_norms() the network has
    staged: bool = False  # whether the network implements run_stage()
