"""Any module as a network: logits as it gives them, the vector that enters its classifier, and maps by module names."""

import math
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, fx, nn
from torch.nn import functional as F

from sskd.config.networks import NetworkSettings, Statistics
from sskd.errors import UserError, nearest
from sskd.networks.base import Features, Network


def resized(images: Tensor, size: int | None) -> Tensor:
    """(B, 3, H, H) to (B, 3, size, size), bilinear, antialiased where it shrinks; as they are if that is their size."""
    if size is None or images.shape[-2:] == (size, size):
        return images
    shrinks = images.shape[-1] > size
    source = images.float() if shrinks else images  # antialiasing is for float32 alone
    return F.interpolate(source, (size, size), mode="bilinear", align_corners=False, antialias=shrinks).to(images.dtype)


fx.wrap("resized")  # one step of a traced network: what it does depends on the size


class _OnImages(Network):
    """A network of this suite whose images are changed before it sees them."""

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

    def changed(self, images: Tensor) -> Tensor:
        """images: (B, 3, H, H), normalised as the data set's are."""
        raise NotImplementedError

    def features(self, images: Tensor) -> Features:
        return self.network.features(self.changed(images))


class Resized(_OnImages):
    """A network that sees images of another size."""

    def __init__(self, network: Network, size: int) -> None:
        super().__init__(network)
        self.size = size

    def changed(self, images: Tensor) -> Tensor:
        return resized(images, self.size)


class Renormalised(_OnImages):
    """A network whose images were normalised otherwise than those of the data set are.

    given: what its images are normalised with; None: already as it wants them. wanted: what it was trained with.
    """

    def __init__(self, network: Network, given: Statistics | None, wanted: Statistics) -> None:
        super().__init__(network)
        old = given or wanted
        channels = zip(old.mean, old.std, wanted.mean, wanted.std, strict=True)
        self.factors = [(std / own_std, (mean - own_mean) / own_std) for mean, std, own_mean, own_std in channels]

    def changed(self, images: Tensor) -> Tensor:
        channels = [images[:, c : c + 1] * factor + shift for c, (factor, shift) in enumerate(self.factors)]
        return torch.cat(channels, 1)


class HookedNetwork(Network):
    """A module that gives logits (B, C), or an object that has them as ``logits``, and has no base class of this suite.

    The pooled vector is what enters its classifier: the last of its linear layers or 1x1 convolutions with C outputs.
    Taps are the outputs of the modules that ``settings.taps`` names. They are kept by hooks, for the time of one
    forward pass. size: of the images that it sees; None: as they come.
    """

    foldable = False  # hooks do not survive a trace, and its own forward pass may not be traceable
    gives_preactivations = False  # True, where a step asks for them: every tap must then end in a ReLU module

    def __init__(self, name: str, module: nn.Module, num_classes: int, settings: NetworkSettings, size: int | None):
        super().__init__()
        self.name, self.network, self.settings, self.size = name, module, settings, size
        self.classifier = _classifier_name(name, module, num_classes)
        self.tail = (f"network.{self.classifier}",)
        self._names = frozenset(self.state_dict())
        wanted = [*settings.taps, *([settings.pooled] if settings.pooled else [])]
        known = [key for key, _ in module.named_modules() if key]
        for tap in wanted:
            if tap not in known:
                near = nearest(tap, known)
                hint = f"did you mean '{near}'?" if near else f"it has {', '.join(known[:8])}, ..."
                raise UserError(f"network_settings of '{name}': it has no module '{tap}'; {hint}")
        if wanted:  # else the next layer could overwrite what a hook has kept
            for layer in module.modules():
                if hasattr(layer, "inplace"):
                    setattr(layer, "inplace", False)  # noqa: B010 - a Module's attribute, to mypy, is a tensor

    def feature_layers(self) -> list[nn.Module]:
        """The module's children but the one that its classifier is, or is in."""
        last = self.classifier.split(".")[0]
        return [child for key, child in self.network.named_children() if key != last]

    def own_name(self, key: str) -> str:
        return _inside(self._names, key)

    def features(self, images: Tensor) -> Features:
        """images: (B, 3, H, H). UserError where an output is nothing that logits, a vector or a map can be made of."""
        found: dict[str, Any] = {}
        asked = {tap: self.network.get_submodule(tap) for tap in (*self.settings.taps, self.settings.pooled) if tap}
        hooks = [module.register_forward_hook(_keep_output(found, tap)) for tap, module in asked.items()]
        before: list[tuple[Tensor, Tensor]] = []  # what ReLUs give, and what they were given
        if self.gives_preactivations:
            relus = {part for module in asked.values() for part in module.modules() if isinstance(part, nn.ReLU)}
            hooks += [relu.register_forward_hook(_keep_both(before)) for relu in relus]
        classifier = self.network.get_submodule(self.classifier)
        hooks.append(classifier.register_forward_pre_hook(_keep_input(found)))
        try:
            output = self.network(resized(images, self.size))
        finally:
            for hook in hooks:
                hook.remove()
        logits = getattr(output, "logits", output)
        if not isinstance(logits, Tensor) or logits.dim() != 2:
            raise UserError(f"network '{self.name}' gives {_shown(output)} instead of logits (B, C)")
        for tap in ("", *asked):
            if tap not in found:
                raise UserError(f"network '{self.name}' did not call its module '{tap or self.classifier}'")
        found_maps = {tap: _as_map(self.name, tap, found[tap]) for tap in asked}
        maps = tuple(found_maps[tap] for tap in self.settings.taps)
        early = maps
        if self.gives_preactivations:
            early = tuple(self._before(tap, found_maps[tap], before) for tap in self.settings.taps)
        return Features(logits, maps, _pooled(self.name, found[""]), early, found_maps.get(self.settings.pooled))

    def _before(self, tap: str, after: Tensor, before: list[tuple[Tensor, Tensor]]) -> Tensor:
        """The input of the ReLU whose output the tap is."""
        found = [given for output, given in before if output is after]
        if not found:
            raise UserError(
                f"network '{self.name}': the module '{tap}' does not end in a nn.ReLU, and maps before it are asked for"
            )
        return found[0]


def _inside(names: frozenset[str], key: str) -> str:
    """The wrapped module's name for a tensor, as the network around it has it. A file that a run has saved has the
    latter already."""
    return key if key in names else f"network.{key}"


def _keep_output(found: dict[str, Any], tap: str) -> Callable[..., None]:
    def hook(module: nn.Module, inputs: Any, output: Any) -> None:
        found[tap] = output

    return hook


def _keep_both(before: list[tuple[Tensor, Tensor]]) -> Callable[..., None]:
    def hook(module: nn.Module, inputs: tuple[Any, ...], output: Any) -> None:
        before.append((output, inputs[0]))

    return hook


def _keep_input(found: dict[str, Any]) -> Callable[..., None]:
    def hook(module: nn.Module, inputs: tuple[Any, ...]) -> None:
        found[""] = inputs[0]

    return hook


def _classifier_name(name: str, module: nn.Module, num_classes: int) -> str:
    """The last layer with as many outputs as there are classes."""
    names = [key for key, layer in module.named_modules() if _outputs(layer) == num_classes]
    if not names:
        raise UserError(
            f"network '{name}' has no linear layer with {num_classes} outputs, so what its pooled features are cannot "
            "be told: build it for as many classes as its function is given, or derive it from sskd.networks.Network"
        )
    return names[-1]


def _outputs(layer: nn.Module) -> int:
    if isinstance(layer, nn.Conv2d) and layer.kernel_size == (1, 1):
        return layer.out_channels
    return layer.out_features if isinstance(layer, nn.Linear) else 0


def _pooled(name: str, entered: Any) -> Tensor:
    """(B, D) of what entered the classifier: averaged over positions where that is a map or tokens."""
    if isinstance(entered, Tensor) and entered.dim() in (2, 3, 4):
        positions = {2: [], 3: [1], 4: [2, 3]}[entered.dim()]
        return entered.mean(positions) if positions else entered
    raise UserError(f"network '{name}': what enters its classifier is {_shown(entered)}, not pooled features (B, D)")


def _as_map(name: str, tap: str, output: Any) -> Tensor:
    """(B, D, H, H) of a module's output: a map as it is, or tokens (B, N, D), of which those that come before the last
    H * H (a class token) are left out."""
    if isinstance(output, Tensor) and output.dim() == 4 and output.shape[2] == output.shape[3]:
        return output
    if isinstance(output, Tensor) and output.dim() == 3:
        side = math.isqrt(output.shape[1])
        return output[:, -side * side :].transpose(1, 2).unflatten(2, (side, side))
    raise UserError(
        f"network_settings of '{name}': the module '{tap}' gives {_shown(output)}; a tap is a map (B, C, H, H) or "
        "tokens (B, N, D)"
    )


def _shown(value: Any) -> str:
    return f"a tensor of shape {tuple(value.shape)}" if isinstance(value, torch.Tensor) else f"a {type(value).__name__}"
