"""Names of networks, and what can be said of how one is used."""

from typing import Annotated

from pydantic import AfterValidator, Field

from sskd.config.fields import Distinct, StrictModel, TupleFromList, check_plain_name

LIBRARIES = ("torchvision", "timm")  # whose networks are named "LIBRARY:NAME"


def split_library(name: str) -> tuple[str, str]:
    """ "timm:resnet18" to ("timm", "resnet18"); a network that is registered here has no library: ("", its name)."""
    library, colon, rest = name.partition(":")
    return (library, rest) if colon and library in LIBRARIES else ("", name)


def _network_name(name: str) -> str:
    check_plain_name(split_library(name)[1])
    return name


NetworkName = Annotated[str, AfterValidator(_network_name)]


def as_path_part(network: str) -> str:
    """The name as a part of a run's id, which is a folder's name: without its colon."""
    return network.replace(":", "-")


class NetworkSettings(StrictModel):
    """How a network is used. ``taps`` and ``pooled`` are for networks that are not of this suite: torchvision's, timm's
    and any module of one's own, which give logits and the pooled vector by themselves."""

    image_size: Annotated[int, Field(ge=8)] | None = None
    """Pixels of a side that the network sees: images of another size are resized to it (bilinear), and a vision
    transformer is built for it. null: the size that the network was made for where it takes no other, else the images'
    own."""
    taps: Annotated[tuple[str, ...], TupleFromList, Distinct] = ()
    """Modules whose outputs are the feature maps, in forward order, for methods that need maps: layer1, blocks.3. An
    output is (B, C, H, H), or (B, N, D) of N tokens, which become a map without the class token."""
    pooled: str = ""
    """The module whose output, averaged over its positions, is what enters the classifier: for the methods that need
    this map (catkd, simkd)."""
