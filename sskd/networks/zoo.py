"""Networks of torchvision ("torchvision:NAME") and timm ("timm:NAME"), and the weights that these libraries publish."""

from collections.abc import Callable, Mapping
from functools import cache, partial
from typing import Any, NamedTuple

from torch import Tensor, nn

from sskd.config.networks import Statistics, split_zoo
from sskd.errors import UserError, nearest, unknown

# torchvision's networks with a fixed image size: prefix of the name, and the argument that sets the size
FIXED = {"vit_": "image_size", "maxvit": "input_size"}
DEFAULT_SIZE = 224


class Made(NamedTuple):
    """A network of torchvision or timm. image_size: side in pixels if the size is fixed; None: any size."""

    module: nn.Module
    image_size: int | None


def check_name(name: str) -> None:
    """Raises UserError if the library is not installed or has no network of that name."""
    library, own = split_zoo(name)
    known = _timm_names(own) if library == "timm" else torchvision_models().list_models(module=torchvision_models())
    if own not in known:
        near = nearest(own, known)
        hint = f"; did you mean '{library}:{near}'?" if near else f": {library}.list_models() names them"
        raise UserError(f"{library} has no network '{own}'{hint}")


def make(name: str, num_classes: int, image_size: int | None) -> Made:
    """Returns the newly initialised network, built for ``image_size`` if its size is fixed. Raises UserError if the
    library does not have it."""
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
            size = image_size or DEFAULT_SIZE
            sized: dict[str, Any] = {argument: (size, size) if argument == "input_size" else size}
            return Made(builder(num_classes=num_classes, **sized), size)
    return Made(builder(num_classes=num_classes), None)


def torchvision_models() -> Any:
    """Returns torchvision.models. It is imported only when needed, because the import takes two seconds."""
    from torchvision import models

    return models


def _timm() -> Any:
    try:
        import timm
    except ImportError:
        raise UserError("networks 'timm:NAME' need timm, which is not installed: pip install 'sskd[timm]'") from None
    return timm


def _timm_names(name: str) -> list[str]:
    """Returns all names, or those of published weights ("resnet18.a1_in1k") if ``name`` has a dot."""
    timm = _timm()
    return list(timm.list_pretrained() if "." in name else timm.list_models())


class Published(NamedTuple):
    """Weights that torchvision or timm publishes."""

    num_classes: int  # 0: the weights have no classifier
    image_size: int  # side in pixels
    statistics: Statistics  # of the normalisation of the images
    place: str  # address
    load: Callable[[], Mapping[str, Tensor]]  # downloads them; returns them under the library's parameter names


@cache
def find_weights(network: str, weights: str) -> Published:
    """Looks up published weights such as "torchvision:IMAGENET1K_V1" or "timm:a1_in1k". Raises UserError if the network
    has none of that name."""
    source, name = weights.split(":", 1)
    return _timm_weights(network, name) if source == "timm" else _torchvision_weights(network, name)


def _torchvision_weights(network: str, name: str) -> Published:
    library, own = split_zoo(network)
    try:
        if library == "timm":
            raise ValueError("not a network of torchvision")
        known = torchvision_models().get_model_weights(own)
    except ValueError:
        raise UserError(f"torchvision has no weights of a network '{network}'") from None
    if name not in known.__members__:
        raise unknown(f"weights of {network}", name, known.__members__)
    entry = known[name]
    images = entry.transforms()
    statistics = Statistics(tuple(images.mean), tuple(images.std))
    load = partial(entry.get_state_dict, check_hash=True)
    return Published(len(entry.meta["categories"] or ()), images.crop_size[0], statistics, entry.url, load)


def _timm_weights(network: str, tag: str) -> Published:
    library, own = split_zoo(network)
    if library != "timm":
        raise UserError(f"timm's weights only fit networks 'timm:NAME', not '{network}'")
    timm, base = _timm(), own.split(".")[0]
    known = [name.partition(".")[2] for name in timm.list_pretrained(f"{base}.*")]
    if tag not in known:
        raise unknown(f"weights of {network}", tag, known)
    config = timm.get_pretrained_cfg(f"{base}.{tag}")
    statistics = Statistics(tuple(config.mean), tuple(config.std))
    place = config.url or f"huggingface.co/{config.hf_hub_id}"
    return Published(
        config.num_classes,
        config.input_size[-1],
        statistics,
        place,
        lambda: timm.create_model(f"{base}.{tag}", pretrained=True).state_dict(),
    )


def fetch_weights(network: str, weights: str) -> dict[str, Tensor]:
    """Returns the published weights under their library's parameter names, downloaded to the library's cache. Raises
    UserError if there are none of that name or the download fails."""
    found = find_weights(network, weights)
    try:
        return dict(found.load())
    except Exception as error:  # connection, disk, or a wrong hash
        reason = " ".join(str(error).split())[:150]
        raise UserError(
            f"{weights} could not be downloaded ({reason}): download {found.place} in another way and give the file's "
            "path"
        ) from None
