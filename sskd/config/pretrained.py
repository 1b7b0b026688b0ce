"""Networks whose weights come from a file or from a library."""

from typing import Annotated, Any

from pydantic import Discriminator, Tag, model_validator

from sskd.config.fields import FilePath, StrictModel
from sskd.config.networks import PUBLISHED, NetworkName, NetworkSettings


class FromFile(StrictModel):
    """A network whose weights come from a file, or from torchvision or timm ("torchvision:IMAGENET1K_V1"). If
    ``sha256`` is given, the run's id depends on the file's content, not on its path."""

    network: NetworkName
    """Name of the network (run_all.py list networks), or torchvision:NAME, timm:NAME."""
    weights: FilePath
    """A file (.pth, .safetensors), or the name of published weights: torchvision:IMAGENET1K_V1, timm:a1_in1k."""
    sha256: str | None = None
    """sha256 of the file, which is checked. If given, the run's id depends on the content and not on the path."""
    which: str | None = None
    """Name of the weights to load if the file holds several for this network: raw, averaged (a moving average, such
    as model_ema or swa_model), or the key under which they are stored (teacher). null: the weights under state_dict
    or model, else the only raw ones; the plan prints the choice."""
    network_settings: NetworkSettings = NetworkSettings()
    """Settings for using the network: image size, and modules that output feature maps."""

    @model_validator(mode="after")
    def _digest_is_of_a_file(self) -> "FromFile":
        for key in ("sha256", "which"):
            if self.published and getattr(self, key):
                raise ValueError(f"'{key}' only applies to a file: remove it, published weights are identified by name")
        return self

    @property
    def published(self) -> bool:
        """True if the weights are published by a library; False for a file."""
        return self.weights.startswith(PUBLISHED)


class FineTuned(StrictModel):
    """A teacher that is trained here from given weights instead of random ones. If the weights have another number
    of classes, the classifier is reinitialised."""

    network: NetworkName
    """Name of the network; in a profile it is the key of the entry."""
    start: FilePath
    """A file (.pth, .safetensors), or the name of published weights: torchvision:IMAGENET1K_V1, timm:a1_in1k."""
    sha256: str | None = None
    """sha256 of the file, which is checked. If given, the run's id depends on the content and not on the path."""
    which: str | None = None
    """Name of the weights to load if the file holds several: raw, averaged, or the key under which they are stored."""

    @property
    def weights(self) -> FromFile:
        """The initial weights."""
        return FromFile(network=self.network, weights=self.start, sha256=self.sha256, which=self.which)

    @model_validator(mode="after")
    def _weights_are_allowed(self) -> "FineTuned":
        _ = self.weights
        return self


def _is_start(data: Any) -> str:
    named = isinstance(data, dict) and "start" in data and "weights" not in data
    return "<start>" if named or isinstance(data, FineTuned) else "<given>"


# an entry of `teachers` in a profile
TeacherEntry = Annotated[
    Annotated[FineTuned, Tag("<start>")] | Annotated[FromFile, Tag("<given>")], Discriminator(_is_start)
]
