"""Builds networks by name with a spec's network settings, and finds the shapes of their features."""

from functools import lru_cache

import torch

from sskd.config.networks import NetworkSettings, Statistics, split_zoo
from sskd.errors import UserError
from sskd.networks import zoo
from sskd.networks.base import NETWORKS, Features, FeatureShapes, Network, pool
from sskd.networks.hooked import HookedNetwork, Renormalised, Resized

PLAIN = NetworkSettings()


def build_network(
    name: str, num_classes: int, settings: NetworkSettings = PLAIN, images: Statistics | None = None
) -> Network:
    """Returns a newly initialised network (from torch's global random state), wrapped as the settings require.

    images: normalisation statistics of its input images, used if the settings have others; None: the settings' own.
    Raises UserError if the name is unknown or the settings do not fit the network.
    """
    used = with_data_config(name, settings)
    network = _sized(name, num_classes, used)
    if used.mean is not None and used.std is not None:
        network = Renormalised(network, images, Statistics(used.mean, used.std))
    network.registered_as = name
    return network


def with_data_config(name: str, settings: NetworkSettings) -> NetworkSettings:
    """Returns the settings with image size, mean and std filled in from the data configuration that they name. Raises
    UserError if it does not exist."""
    if not settings.data_config:
        return settings
    found = zoo.find_weights(name, settings.data_config)
    own = {"image_size": found.image_size, **found.statistics._asdict()}
    return settings.model_copy(update={key: getattr(settings, key) or value for key, value in own.items()})


def _sized(name: str, num_classes: int, settings: NetworkSettings) -> Network:
    if split_zoo(name)[0]:
        module, size = zoo.make(name, num_classes, settings.image_size)
        return HookedNetwork(f"network '{name}'", module, num_classes, settings, settings.image_size or size)
    module = NETWORKS[name](num_classes)
    if not isinstance(module, Network):
        own = getattr(module, "image_size", None)  # torchvision's vision transformers have a fixed size
        size = settings.image_size or (own if isinstance(own, int) else None)
        return HookedNetwork(f"network '{name}'", module, num_classes, settings, size)
    if settings.taps or settings.pooled:
        raise UserError(
            f"network_settings of '{name}': taps and pooled only apply to networks without features(); remove them"
        )
    return Resized(module, settings.image_size) if settings.image_size else module


@lru_cache(maxsize=256)
def feature_shapes(name: str, image_size: int = 32, settings: NetworkSettings = PLAIN) -> FeatureShapes:
    """Returns the shapes of a network's features for square images of ``image_size`` pixels, from a forward pass on
    torch's meta device. Raises UserError if the mean of ``settings.pooled`` is not the classifier's input; this check
    computes one image."""
    with torch.device("meta"):
        network = build_network(name, 2, settings).eval()
        features = network.features(torch.empty(1, 3, image_size, image_size))
    if settings.pooled:
        with torch.random.fork_rng(devices=[]), torch.inference_mode():
            computed = build_network(name, 2, settings).eval()
            check_pooled(f"network '{name}'", computed.features(torch.randn(1, 3, image_size, image_size)), settings)
        computed.classifier_layer  # noqa: B018 - raises UserError if it is not a linear layer
    return shapes_from(name, network, features)


def shapes_from(name: str, network: Network, features: Features) -> FeatureShapes:
    """Returns the shapes of one image's features, and the network's own flags."""
    maps = tuple(tuple(each.shape[1:]) for each in features.feature_maps)
    pre_pool = None if features.pre_pool is None else tuple(features.pre_pool.shape[1:])
    norms = len(network.map_norms())
    return FeatureShapes(
        name, maps, features.pooled.shape[1], pre_pool, network.gives_preactivations, norms, network.staged
    )


def check_pooled(whose: str, features: Features, settings: NetworkSettings) -> None:
    """Raises UserError if the mean of the map that ``settings.pooled`` names is not the classifier's input. whose: what
    the error calls the network."""
    if features.pre_pool is None:
        return
    mean = pool(features.pre_pool)
    if mean.shape != features.pooled.shape or not torch.allclose(mean, features.pooled, rtol=1e-3, atol=1e-5):
        raise UserError(
            f"{whose}: the input of its classifier is not the spatial mean of '{settings.pooled}': name another "
            "module, or remove pooled"
        )
