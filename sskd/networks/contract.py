"""Checks that a user's network fulfils the contract of ``Network``, on random images, before training."""

from typing import Any

import safetensors.torch
import torch
from torch import Tensor
from torch.nn.parameter import is_lazy

from sskd.config.networks import NetworkSettings
from sskd.errors import UserError
from sskd.networks.base import Features, Network, pool
from sskd.networks.build import build_network
from sskd.networks.folded import FrozenNetwork

IMAGES = 4


def check_network(name: str, settings: NetworkSettings, classes: int, size: int, teaches: bool) -> None:
    """Builds the network and runs it on random images (size x size pixels): forward and backward in train mode, then a
    batch and a single image in eval mode. teaches: also check its frozen copy, as for a teacher. Raises UserError if it
    breaks the contract of ``Network``; exceptions of the network are passed on."""
    network = build_network(name, classes, settings)
    state = _check_state(network)
    images = torch.randn(IMAGES, 3, size, size)

    network.train()
    features = network.features(images)
    _check_features(features, IMAGES, classes, "train")
    tensors = (features.logits, *features.feature_maps, features.pooled, *features.preactivations)
    sum(tensor.mean() for tensor in tensors if tensor.requires_grad).backward()  # type: ignore[union-attr]
    if not any(parameter.grad is not None for parameter in network.parameters()):
        raise UserError("no gradient of its logits reaches its parameters")
    if network.state_dict().keys() != state:
        changed = _own(sorted(network.state_dict().keys() ^ state)[0])
        raise UserError(f"its forward pass adds or removes {changed}: create its layers in __init__")

    network.eval()
    with torch.no_grad():
        _check_features(network.features(images[:1]), 1, classes, "eval")
        features = network.features(images)
        _check_features(features, IMAGES, classes, "eval")
        if not _near(network(images), features.logits):
            raise UserError("its forward() and its features() give different logits in eval mode")
        if teaches and network.foldable:
            _check_folded(network, images, features)


def _check_state(network: Network) -> set[str]:
    """Returns the names of its tensors, after checking that each can be saved once."""
    lazy = [key for key, tensor in network.state_dict(keep_vars=True).items() if is_lazy(tensor)]
    if lazy:
        raise UserError(
            f"its {_own(lazy[0])} has no shape yet: lazy layers cannot be saved or counted; give the layer its size"
        )
    if not any(parameter.requires_grad for parameter in network.parameters()):
        raise UserError("none of its parameters has requires_grad: there is nothing to train")
    state = network.state_dict()
    try:
        safetensors.torch.save({key: tensor.contiguous() for key, tensor in state.items()})
    except Exception as error:  # tensors that share memory (tied weights), or values that are not tensors
        raise UserError(f"its state_dict() cannot be saved: {' '.join(str(error).split())[:250]}") from None
    return set(state)


def _own(key: str) -> str:
    """Returns a tensor's name in the user's module, without the wrapper's prefix."""
    return key.removeprefix("network.")


def _check_features(features: Any, images: int, classes: int, mode: str) -> None:
    if not isinstance(features, Features):
        raise UserError(f"its features() returns a {type(features).__name__} in {mode} mode, not Features")
    if not isinstance(features.feature_maps, tuple | list) or not isinstance(features.preactivations, tuple | list):
        raise UserError("the feature_maps and preactivations of its features() are not tuples")
    maps, before = features.feature_maps, features.preactivations
    if len(before) != len(maps):
        raise UserError(
            f"its features() have {len(maps)} feature maps and {len(before)} preactivations: repeat a map that follows "
            "no ReLU"
        )
    if not isinstance(features.pooled, Tensor):
        raise UserError(f"the pooled features of its features() are a {type(features.pooled).__name__}, not a tensor")
    expected: list[tuple[str, Any, tuple[int, ...], int]] = [
        ("logits", features.logits, (images, classes), 2),
        ("pooled features", features.pooled, (images,), 2),
        *((f"feature map {number}", each, (images,), 4) for number, each in enumerate(maps)),
        *((f"preactivation {number}", each, tuple(maps[number].shape), 4) for number, each in enumerate(before)),
    ]
    if features.pre_pool is not None:
        expected.append(("pre_pool map", features.pre_pool, (images, features.pooled.shape[-1]), 4))
    for what, tensor, shape, dimensions in expected:
        if not isinstance(tensor, Tensor):
            raise UserError(f"its {what} in {mode} mode are a {type(tensor).__name__}, not a tensor")
        if tensor.dim() != dimensions or tuple(tensor.shape[: len(shape)]) != shape:
            sizes = ", ".join([*map(str, shape), *["..."] * (dimensions - len(shape))])
            raise UserError(
                f"its {what} for {images} image{'s' * (images > 1)} in {mode} mode: shape {tuple(tensor.shape)}, "
                f"not ({sizes})"
            )
        if tensor.dtype != torch.float32:
            raise UserError(f"its {what} in {mode} mode: {tensor.dtype}, expected torch.float32, as the images")
        if not tensor.isfinite().all():
            raise UserError(f"its {what} in {mode} mode: NaN or infinite on random images")
    if mode == "train" and not features.logits.requires_grad:
        raise UserError("its logits have no gradient in train mode")
    if features.pre_pool is not None and not _near(pool(features.pre_pool), features.pooled):
        raise UserError(f"in {mode} mode the spatial mean of its pre_pool map differs from its pooled features")


def _check_folded(network: Network, images: Tensor, features: Features) -> None:
    try:
        logits = FrozenNetwork(network, torch.float32).features(images).logits
    except Exception as error:  # torch.fx raises many types
        problem = " ".join(str(error).split())[:150]
        raise UserError(f"it cannot be traced as a teacher ({problem}): set foldable = False in its class") from None
    if not _near(logits, features.logits):
        raise UserError(
            "its traced copy, which is used as teacher, gives other logits: set foldable = False in its class"
        )


def _near(found: Any, expected: Tensor) -> bool:
    if not isinstance(found, Tensor) or found.shape != expected.shape:
        return False
    scale = expected.abs().max().item()
    return torch.allclose(found, expected, rtol=1e-3, atol=1e-4 * scale + 1e-6)
