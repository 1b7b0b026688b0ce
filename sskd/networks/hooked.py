"""Adapts any module to the ``Network`` interface: hooks read its classifier's input and the outputs of named
modules."""

import math
from functools import partial
from typing import Any

import torch
from torch import Tensor, fx, nn
from torch.nn import functional as F

from sskd.config.networks import NetworkSettings, Statistics
from sskd.errors import UserError, nearest
from sskd.networks.base import Features, Network


def resized(images: Tensor, size: int | None) -> Tensor:
    """Resizes images (B, 3, H, H) to (B, 3, size, size), bilinear, with antialiasing when it shrinks them."""
    if size is None or images.shape[-2:] == (size, size):
        return images
    shrinks = images.shape[-1] > size
    source = images.float() if shrinks else images  # antialiasing only supports float32
    return F.interpolate(source, (size, size), mode="bilinear", align_corners=False, antialias=shrinks).to(images.dtype)


fx.wrap("resized")  # one node of a traced graph, because its branch depends on the image size


class _WithInputTransform(Network):
    """A network of this suite behind a transform of its input images."""

    def __init__(self, network: Network) -> None:
        super().__init__()
        self.network = network
        self.foldable, self.gives_preactivations = network.foldable, network.gives_preactivations
        self.tail = tuple(f"network.{name}" for name in network.tail)
        self._names = frozenset(self.state_dict())

    def feature_layers(self) -> list[nn.Module]:
        return self.network.feature_layers()

    def map_norms(self) -> list[nn.BatchNorm2d]:
        return self.network.map_norms()

    def own_name(self, key: str) -> str:
        return _inside(self._names, self.network.own_name(key))

    def transform(self, images: Tensor) -> Tensor:
        """Transforms images (B, 3, H, H) that are normalised with the data set's statistics."""
        raise NotImplementedError

    def features(self, images: Tensor) -> Features:
        return self.network.features(self.transform(images))


class Resized(_WithInputTransform):
    """A network that resizes its input images."""

    def __init__(self, network: Network, size: int) -> None:
        super().__init__(network)
        self.size = size

    def transform(self, images: Tensor) -> Tensor:
        return resized(images, self.size)


class Renormalised(_WithInputTransform):
    """A network that was trained with other normalisation statistics than the data set's.

    given: statistics of the input images (None: the same as ``own``). own: statistics of the network's training.
    """

    def __init__(self, network: Network, given: Statistics | None, own: Statistics) -> None:
        super().__init__(network)
        old = given or own
        channels = zip(old.mean, old.std, own.mean, own.std, strict=True)
        self.factors = [(std / own_std, (mean - own_mean) / own_std) for mean, std, own_mean, own_std in channels]

    def transform(self, images: Tensor) -> Tensor:
        channels = [images[:, c : c + 1] * factor + shift for c, (factor, shift) in enumerate(self.factors)]
        return torch.cat(channels, 1)


class HookedNetwork(Network):
    """Wraps a module that returns logits (B, C), or an object with the attribute ``logits``.

    The pooled features are the input of its classifier, which is its last linear layer or 1x1 convolution with C
    outputs. The feature maps are the outputs of the modules that ``settings.taps`` names. Hooks read both during the
    forward pass. whose: what errors call the network. size: images are resized to size x size pixels; None: they are
    not resized.
    """

    foldable = False  # torch.fx does not trace hooks
    gives_preactivations = False  # set to True if a method needs them: each tap must then end in a ReLU module

    def __init__(self, whose: str, module: nn.Module, num_classes: int, settings: NetworkSettings, size: int | None):
        super().__init__()
        self.whose, self.network, self.settings, self.size = whose, module, settings, size
        self.classifier = _classifier_name(whose, module, num_classes)
        self.tail = (f"network.{self.classifier}",)
        self._names = frozenset(self.state_dict())
        named = [*settings.taps, *([settings.pooled] if settings.pooled else [])]
        known = [key for key, _ in module.named_modules() if key]
        for tap in named:
            if tap not in known:
                near = nearest(tap, known)
                hint = f"did you mean '{near}'?" if near else f"it has {', '.join(known[:8])}, ..."
                raise UserError(f"{whose} has no module '{tap}'; {hint}")
        if named:  # an in-place layer would overwrite the tensor that a hook has stored
            for layer in module.modules():
                if hasattr(layer, "inplace"):
                    setattr(layer, "inplace", False)  # noqa: B010 - mypy takes attributes of a Module for tensors

    def feature_layers(self) -> list[nn.Module]:
        """Returns the module's children except the one that is, or contains, the classifier."""
        last = self.classifier.split(".")[0]
        return [child for key, child in self.network.named_children() if key != last]

    def own_name(self, key: str) -> str:
        return _inside(self._names, key)

    def features(self, images: Tensor) -> Features:
        """Returns the features of images (B, 3, H, H). Raises UserError if an output has an unsupported shape."""
        found: dict[str, Any] = {}
        asked = {tap: self.network.get_submodule(tap) for tap in (*self.settings.taps, self.settings.pooled) if tap}
        hooks = [module.register_forward_hook(partial(_keep_output, found, tap)) for tap, module in asked.items()]
        before: list[tuple[Tensor, Tensor]] = []  # outputs and inputs of ReLU modules
        if self.gives_preactivations:
            relus = {part for module in asked.values() for part in module.modules() if isinstance(part, nn.ReLU)}
            hooks += [relu.register_forward_hook(partial(_keep_both, before)) for relu in relus]
        classifier = self.network.get_submodule(self.classifier)
        hooks.append(classifier.register_forward_pre_hook(partial(_keep_input, found)))
        try:
            output = self.network(resized(images, self.size))
        finally:
            for hook in hooks:
                hook.remove()
        logits = getattr(output, "logits", output)
        if not isinstance(logits, Tensor) or logits.dim() != 2:
            raise UserError(f"{self.whose} returns {_shown(output)}; expected logits (B, C)")
        for tap in ("", *asked):
            if tap not in found:
                raise UserError(f"{self.whose} did not call its module '{tap or self.classifier}' in the forward pass")
        found_maps = {tap: _as_map(self.whose, tap, found[tap]) for tap in asked}
        maps = tuple(found_maps[tap] for tap in self.settings.taps)
        early = maps
        if self.gives_preactivations:
            early = tuple(self._before(tap, found_maps[tap], before) for tap in self.settings.taps)
        return Features(logits, maps, _pooled(self.whose, found[""]), early, found_maps.get(self.settings.pooled))

    def _before(self, tap: str, after: Tensor, before: list[tuple[Tensor, Tensor]]) -> Tensor:
        """Returns the input of the ReLU whose output is the tap."""
        found = [given for output, given in before if output is after]
        if not found:
            raise UserError(
                f"{self.whose}: the method needs maps before their ReLU, but the module '{tap}' does "
                "not end in an nn.ReLU; name another module in taps"
            )
        return found[0]


def _inside(names: frozenset[str], key: str) -> str:
    """Returns the wrapper's name of the wrapped module's tensor ``key``. Files saved by a run use the wrapper's
    name."""
    return key if key in names else f"network.{key}"


def _keep_output(found: dict[str, Any], tap: str, module: nn.Module, inputs: Any, output: Any) -> None:
    found[tap] = output


def _keep_both(before: list[tuple[Tensor, Tensor]], module: nn.Module, inputs: tuple[Any, ...], output: Any) -> None:
    before.append((output, inputs[0]))


def _keep_input(found: dict[str, Any], module: nn.Module, inputs: tuple[Any, ...]) -> None:
    found[""] = inputs[0]


def _classifier_name(whose: str, module: nn.Module, num_classes: int) -> str:
    """Returns the name of the last layer with ``num_classes`` outputs."""
    names = [key for key, layer in module.named_modules() if _outputs(layer) == num_classes]
    if not names:
        raise UserError(
            f"{whose} has no linear layer with {num_classes} outputs, so its classifier cannot be found: build it for "
            "that number of classes, or derive it from sskd.networks.Network"
        )
    return names[-1]


def _outputs(layer: nn.Module) -> int:
    if isinstance(layer, nn.Conv2d) and layer.kernel_size == (1, 1):
        return layer.out_channels
    return layer.out_features if isinstance(layer, nn.Linear) else 0


def _pooled(whose: str, entered: Any) -> Tensor:
    """Returns the pooled features (B, D): the classifier's input, averaged over positions if it is a map or tokens."""
    if isinstance(entered, Tensor) and entered.dim() in (2, 3, 4):
        positions = {2: [], 3: [1], 4: [2, 3]}[entered.dim()]
        return entered.mean(positions) if positions else entered
    raise UserError(f"{whose}: its classifier's input is {_shown(entered)}; expected pooled features (B, D)")


def _as_map(whose: str, tap: str, output: Any) -> Tensor:
    """Returns a module's output as a map (B, D, H, H). Of tokens (B, N, D) it takes the last H * H, without a class
    token before them."""
    if isinstance(output, Tensor) and output.dim() == 4 and output.shape[2] == output.shape[3]:
        return output
    if isinstance(output, Tensor) and output.dim() == 3:
        side = math.isqrt(output.shape[1])
        return output[:, -side * side :].transpose(1, 2).unflatten(2, (side, side))
    raise UserError(
        f"{whose}: the module '{tap}' returns {_shown(output)}; expected a map (B, C, H, H) or tokens (B, N, D)"
    )


def _shown(value: Any) -> str:
    return f"a tensor of shape {tuple(value.shape)}" if isinstance(value, torch.Tensor) else f"a {type(value).__name__}"
