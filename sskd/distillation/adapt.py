"""Adapts any module to the suite's ``Network`` interface, and suggests which of its modules output feature maps."""

import math
from collections.abc import Sequence
from itertools import zip_longest
from typing import Any

import torch
from torch import Tensor, nn

from sskd.config.networks import NetworkSettings
from sskd.errors import UserError
from sskd.networks import FeatureShapes, Network
from sskd.networks.build import check_pooled, shapes_from
from sskd.networks.hooked import HookedNetwork

SUGGESTED_TOKENS = 4  # suggested blocks of a transformer, whose maps all have the same size


def as_network(
    module: nn.Module,
    num_classes: int,
    taps: Sequence[str] = (),
    pooled: str = "",
    whose: str = "student",
    preactivations: bool = False,
) -> Network:
    """Returns the module itself if it is a Network, else a HookedNetwork around it.

    taps: names of the modules whose outputs are feature maps. pooled: name of the module whose spatial mean is the
    classifier's input. preactivations: also read the maps before their ReLU. Raises UserError if the module has no such
    modules, or no classifier with that number of classes.
    """
    if isinstance(module, Network):
        if taps or pooled:
            raise UserError(f"the {whose} is a Network, whose features() return its maps: remove its taps and pooled")
        return module
    settings = NetworkSettings(taps=tuple(taps), pooled=pooled)
    made = HookedNetwork(f"the {whose}", module, num_classes, settings, None)
    made.gives_preactivations = preactivations and bool(taps)
    return made


def own_module(network: nn.Module) -> nn.Module:
    """Returns the module inside a HookedNetwork, or the network itself."""
    return network.network if isinstance(network, HookedNetwork) else network


def name_of(module: nn.Module) -> str:
    """Returns the name that the suite built the network by, or else its class name."""
    own = own_module(module)
    return getattr(own, "registered_as", "") or type(own).__name__


def shapes_of(network: Network, sample: Tensor, num_classes: int, whose: str) -> FeatureShapes:
    """Returns the shapes of the network's features of one image, from a forward pass in eval mode.

    sample: images (B, 3, H, W); the first is used. Raises UserError if the number of classes differs, or the mean of
    the map named by ``pooled`` is not the classifier's input.
    """
    was_training = network.training
    network.eval()
    device = next(network.parameters()).device
    with torch.no_grad():
        features = network.features(sample[:1].to(device).float())
    network.train(was_training)
    classes = features.logits.shape[1]
    if classes != num_classes:
        raise UserError(f"the {whose} has {classes} classes, but num_classes is {num_classes}")
    if isinstance(network, HookedNetwork):
        check_pooled(f"the {whose}", features, network.settings)
    return shapes_from(name_of(network), network, features)


def suggest_taps(
    module: nn.Module, sample: Tensor, teacher: nn.Module | None = None, show: bool = True
) -> dict[str, tuple[int, ...]]:
    """Returns names of modules that are suitable as taps, with the shapes (channels, height, width) of their maps.

    These are the last modules before each reduction of the map size, or some blocks of a transformer. sample: images
    (B, 3, H, W) in the networks' input format. teacher: adds its modules to the printed table, paired from the last.
    show: print the table.
    """
    own = _candidates(module, sample)
    other = {} if teacher is None else _candidates(teacher, sample)
    if show:
        pairs = zip_longest(reversed(own.items()), reversed(other.items()), fillvalue=("", ()))
        for (name, shape), (its_name, its_shape) in reversed(list(pairs)):
            line = f"{name:24} {_times(shape):14}"
            fits = "" if not (shape and its_shape) else " same size" if shape[1:] == its_shape[1:] else " other size"
            print(f"{line} {its_name:24} {_times(its_shape):14}{fits}".rstrip())
    return own


def _times(shape: tuple[int, ...]) -> str:
    return " x ".join(map(str, shape))


def _candidates(module: nn.Module, sample: Tensor) -> dict[str, tuple[int, ...]]:
    if isinstance(module, Network):
        return {}  # its features() return its maps
    found: list[tuple[str, tuple[int, ...]]] = []
    tokens: list[tuple[str, tuple[int, ...]]] = []
    blocks = {
        f"{name}.{key}".lstrip(".")
        for name, parent in module.named_modules()
        if isinstance(parent, nn.Sequential | nn.ModuleList)
        for key, _ in parent.named_children()
    }

    def note(name: str, output: Any) -> None:
        if not isinstance(output, Tensor):
            return
        if output.dim() == 4 and output.shape[2] == output.shape[3] > 1:
            found.append((name, tuple(output.shape[1:])))
        elif output.dim() == 3 and name in blocks:
            side = math.isqrt(output.shape[1])
            tokens.append((name, (output.shape[2], side, side)))

    hooks = [
        part.register_forward_hook(lambda _, __, output, name=name: note(name, output))
        for name, part in module.named_modules()
        if name
    ]
    was_training = module.training
    module.eval()
    try:
        with torch.no_grad():
            module(sample[:1].to(next(module.parameters()).device).float())
    finally:
        module.train(was_training)
        for hook in hooks:
            hook.remove()
    if tokens:
        step = max(1, len(tokens) // SUGGESTED_TOKENS)
        return dict(tokens[::-1][: SUGGESTED_TOKENS * step : step][::-1])
    last_of_size = {shape[1:]: (name, shape) for name, shape in found}  # a later module replaces an earlier one
    return dict(last_of_size.values())
