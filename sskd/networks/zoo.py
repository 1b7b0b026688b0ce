"""Networks of torchvision ("torchvision:NAME") and timm ("timm:NAME"), and the weights that these libraries publish."""

from functools import cache
from typing import Any, NamedTuple

from torch import Tensor, nn

from sskd.config.networks import Statistics, split_zoo
from sskd.errors import UserError, nearest

# torchvision's networks that are built for one size of images, by the beginning of their names: the argument
FIXED = {"vit_": "image_size", "maxvit": "input_size"}
OWN_SIZE = 224  # of these, where nothing else is said


class Made(NamedTuple):
    """A library's network, and the size of images that it was built for (pixels of a side); None: any."""

    module: nn.Module
    image_size: int | None


def check_name(name: str) -> None:
    """UserError where the library is not installed, or has no network of that name."""
    library, own = split_zoo(name)
    known = _timm_names(own) if library == "timm" else torchvision_models().list_models(module=torchvision_models())
    if own not in known:
        near = nearest(own, known)
        hint = f"; did you mean '{library}:{near}'?" if near else f": {library}.list_models() names them"
        raise UserError(f"{library} has no network '{own}'{hint}")


def make(name: str, num_classes: int, image_size: int | None) -> Made:
    """The network, freshly initialised, for images of that size where it is built for one. UserError as check_name."""
    check_name(name)
    library, own = split_zoo(name)
    if library == "timm":
        timm = _timm()
        config = timm.get_pretrained_cfg(own)
        if config is None or not config.fixed_input_size:
            return Made(timm.create_model(own, num_classes=num_classes), None)
        size = image_size or config.input_size[-1]
        return Made(timm.create_model(own, num_classes=num_classes, img_size=size), size)
    builder = torchvision_models().get_model_builder(own)
    for start, argument in FIXED.items():
        if own.startswith(start):
            size = image_size or OWN_SIZE
            sized: dict[str, Any] = {argument: (size, size) if argument == "input_size" else size}
            return Made(builder(num_classes=num_classes, **sized), size)
    return Made(builder(num_classes=num_classes), None)


def torchvision_models() -> Any:
    """torchvision.models, imported where one of its networks is named, as that takes two seconds."""
    from torchvision import models

    return models


def _timm() -> Any:
    try:
        import timm
    except ImportError:
        raise UserError("networks 'timm:NAME' need timm, which is not installed: pip install 'sskd[timm]'") from None
    return timm


def _timm_names(name: str) -> list[str]:
    """All names; with those of published weights ("resnet18.a1_in1k") where ``name`` has a dot."""
    timm = _timm()
    return list(timm.list_pretrained() if "." in name else timm.list_models())


class Published(NamedTuple):
    """Weights that a library publishes. place: where they can be had without it."""

    num_classes: int
    place: str


def find_weights(network: str, weights: str) -> Published:
    """What "torchvision:IMAGENET1K_V1" or "timm:a1_in1k" is for that network. UserError if there is none."""
    source, name = weights.split(":", 1)
    library, own = split_zoo(network)
    if source == "timm":
        return _timm_weights(network, name)
    try:
        if library == "timm":
            raise ValueError("a network of the other library")
        known = torchvision_models().get_model_weights(own)
    except ValueError:
        raise UserError(f"torchvision has no weights of a network '{network}'") from None
    if name not in known.__members__:
        _refuse(network, name, list(known.__members__))
    entry = known[name]
    return Published(len(entry.meta["categories"] or ()), entry.url)  # some have no classifier


def _timm_weights(network: str, tag: str) -> Published:
    library, own = split_zoo(network)
    if library != "timm":
        raise UserError(f"timm's weights are of networks 'timm:NAME', not of '{network}'")
    base = own.split(".")[0]
    known = [name.partition(".")[2] for name in _timm().list_pretrained(f"{base}.*")]
    if tag not in known:
        _refuse(network, tag, known)
    config = _timm().get_pretrained_cfg(f"{base}.{tag}")
    return Published(config.num_classes, config.url or f"huggingface.co/{config.hf_hub_id}")


class DataConfig(NamedTuple):
    """How images come to published weights: pixels of a side, and what they are normalised with."""

    image_size: int
    statistics: Statistics


@cache
def data_config(network: str, weights: str) -> DataConfig:
    """That of "torchvision:IMAGENET1K_V1" or "timm:a1_in1k" of that network. UserError if there are none."""
    find_weights(network, weights)
    source, name = weights.split(":", 1)
    own = split_zoo(network)[1]
    if source == "timm":
        config = _timm().get_pretrained_cfg(f"{own.split('.')[0]}.{name}")
        return DataConfig(config.input_size[-1], Statistics(tuple(config.mean), tuple(config.std)))
    preset = torchvision_models().get_model_weights(own)[name].transforms()
    return DataConfig(preset.crop_size[0], Statistics(tuple(preset.mean), tuple(preset.std)))


def _refuse(network: str, name: str, known: list[str]) -> None:
    near = nearest(name, known)
    hint = f"; did you mean '{near}'?" if near else "."
    raise UserError(f"unknown weights of {network} '{name}'{hint} Known: {', '.join(sorted(known)) or 'none'}")


def fetch_weights(network: str, weights: str) -> dict[str, Tensor]:
    """The published weights by their library's names, downloaded once to the library's own cache. UserError if there
    are none of that name, or no network to get them by."""
    place = find_weights(network, weights).place
    source, name = weights.split(":", 1)
    own = split_zoo(network)[1]
    try:
        if source == "timm":
            return dict(_timm().create_model(f"{own.split('.')[0]}.{name}", pretrained=True).state_dict())
        return dict(torchvision_models().get_model_weights(own)[name].get_state_dict(check_hash=True))
    except Exception as error:  # whatever the network, the disk or a wrong hash may raise
        reason = " ".join(str(error).split())[:150]
        raise UserError(
            f"{weights} could not be downloaded ({reason}): get {place} elsewhere and name the file instead"
        ) from None
