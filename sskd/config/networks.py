"""Names of networks, and what can be said of how one is used."""

from typing import Annotated, NamedTuple

from pydantic import AfterValidator, PositiveFloat, model_validator

from sskd.config.fields import Distinct, Pixels, StrictModel, TupleFromList, check_plain_name

ZOOS = ("torchvision", "timm")  # whose networks are named "LIBRARY:NAME"
PUBLISHED = ("torchvision:", "timm:")  # before the name of weights that these libraries publish


class Statistics(NamedTuple):
    """By channel, of pixels / 255: what images are normalised with."""

    mean: tuple[float, float, float]
    std: tuple[float, float, float]


def split_zoo(name: str) -> tuple[str, str]:
    """ "timm:resnet18" to ("timm", "resnet18"); a network that is registered here has no library: ("", its name)."""
    library, colon, rest = name.partition(":")
    return (library, rest) if colon and library in ZOOS else ("", name)


def _network_name(name: str) -> str:
    check_plain_name(split_zoo(name)[1])
    return name


NetworkName = Annotated[str, AfterValidator(_network_name)]


def as_path_part(network: str) -> str:
    """The name as a part of a run's id, which is a folder's name: without its colon."""
    return network.replace(":", "-")


class NetworkSettings(StrictModel):
    """How a network is used. ``taps`` and ``pooled`` are for networks that are not of this suite: torchvision's, timm's
    and any module of one's own, which give logits and the pooled vector by themselves."""

    image_size: Pixels | None = None
    """Pixels of a side that the network sees: images of another size are resized to it (bilinear), and a vision
    transformer is built for it. null: the size that the network was made for where it takes no other, else the images'
    own."""
    mean: Annotated[tuple[float, float, float], TupleFromList] | None = None
    """By channel, of pixels / 255, with std: the network's images are normalised with these two, in place of the data
    set's. For weights that were trained with others."""
    std: Annotated[tuple[PositiveFloat, PositiveFloat, PositiveFloat], TupleFromList] | None = None
    """See mean."""
    data_config: str = ""
    """Published weights (timm:a1_in1k, torchvision:IMAGENET1K_V1) whose data configuration the network's images follow:
    their size, mean and std. What is said beside it comes first."""
    taps: Annotated[tuple[str, ...], TupleFromList, Distinct] = ()
    """Modules whose outputs are the feature maps, in forward order, for methods that need maps: layer1, blocks.3. An
    output is (B, C, H, H), or (B, N, D) of N tokens, which become a map without the class token."""
    pooled: str = ""
    """The module whose output, averaged over its positions, is what enters the classifier: for the methods that need
    this map (catkd, simkd)."""

    @model_validator(mode="after")
    def _mean_and_std_go_together(self) -> "NetworkSettings":
        if (self.mean is None) != (self.std is None):
            raise ValueError("'mean' and 'std' go together: give both, or neither")
        if self.data_config and not self.data_config.startswith(PUBLISHED):
            raise ValueError("'data_config' is the name of published weights: timm:a1_in1k, torchvision:IMAGENET1K_V1")
        return self
