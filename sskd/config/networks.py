"""Names of networks, and the settings for using one."""

from typing import Annotated, NamedTuple

from pydantic import AfterValidator, PositiveFloat, model_validator

from sskd.config.fields import Distinct, Pixels, StrictModel, TupleFromList, check_plain_name

ZOOS = ("torchvision", "timm")  # model zoos; their networks are named "ZOO:NAME"
PUBLISHED = ("torchvision:", "timm:")  # prefixes of the names of weights that these zoos publish


class Statistics(NamedTuple):
    """Per-channel mean and standard deviation that images are normalised with, of pixels / 255."""

    mean: tuple[float, float, float]
    std: tuple[float, float, float]


def split_zoo(name: str) -> tuple[str, str]:
    """Splits "timm:resnet18" into ("timm", "resnet18"). A network of the registry has no zoo: ("", its name)."""
    library, colon, rest = name.partition(":")
    return (library, rest) if colon and library in ZOOS else ("", name)


def _network_name(name: str) -> str:
    check_plain_name(split_zoo(name)[1])
    return name


NetworkName = Annotated[str, AfterValidator(_network_name)]


def as_path_part(network: str) -> str:
    """Returns the name as part of a run's id, which is a folder name: ":" becomes "-"."""
    return network.replace(":", "-")


class NetworkSettings(StrictModel):
    """Settings for using a network. ``taps`` and ``pooled`` are only for networks outside this suite (torchvision,
    timm, any nn.Module), which otherwise provide logits and pooled features only."""

    image_size: Pixels | None = None
    """Side (pixels) of the images that the network sees. Images of another size are resized (bilinear); a vision
    transformer is built for this size. null: the size that the network was made for if it accepts no other, else the
    size of the images."""
    mean: Annotated[tuple[float, float, float], TupleFromList] | None = None
    """Per-channel mean of pixels / 255. With std, it replaces the data set's statistics for the normalisation, for
    weights that were trained with other values."""
    std: Annotated[tuple[PositiveFloat, PositiveFloat, PositiveFloat], TupleFromList] | None = None
    """Per-channel standard deviation of pixels / 255 (see mean)."""
    data_config: str = ""
    """Published weights (timm:a1_in1k, torchvision:IMAGENET1K_V1) whose image size, mean and std are used. Values
    given in image_size, mean and std take precedence."""
    taps: Annotated[tuple[str, ...], TupleFromList, Distinct] = ()
    """Names of the modules that output the feature maps, in forward order (layer1, blocks.3), for methods that need
    maps. An output is (B, C, H, H), or (B, N, D) for N tokens, which are reshaped to a map without the class token."""
    pooled: str = ""
    """Name of the module that outputs the feature map before global average pooling. Only needed by methods that use
    this map (catkd, simkd)."""

    @model_validator(mode="after")
    def _mean_and_std_go_together(self) -> "NetworkSettings":
        if (self.mean is None) != (self.std is None):
            raise ValueError("only one of 'mean' and 'std' is given: give both, or neither")
        if self.data_config and not self.data_config.startswith(PUBLISHED):
            raise ValueError(
                "'data_config' must name published weights, such as timm:a1_in1k or torchvision:IMAGENET1K_V1"
            )
        return self
