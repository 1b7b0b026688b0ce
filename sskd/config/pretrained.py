"""A network whose weights are given."""

from typing import Annotated, Any

from pydantic import Discriminator, Tag, model_validator

from sskd.config.fields import FilePath, StrictModel
from sskd.config.networks import PUBLISHED, NetworkName, NetworkSettings


class FromFile(StrictModel):
    """A network whose weights come from a file, or are torchvision's or timm's ("torchvision:IMAGENET1K_V1"). With
    ``sha256`` of a file the id follows the content, not the path."""

    network: NetworkName
    """What the weights are of: run_all.py list networks names them; or torchvision:NAME, timm:NAME."""
    weights: FilePath
    """A file (.pth, .safetensors), or published ones by name: torchvision:IMAGENET1K_V1, timm:a1_in1k."""
    sha256: str | None = None
    """The hash of the file, which is checked. With it a run's id follows the content and not the path."""
    which: str | None = None
    """Where a file holds several weights of the network that differ: raw, averaged (a moving average's: model_ema,
    swa_model), or the name under which they stand (teacher). null: those under state_dict or model, else the only raw
    ones; the plan says which were taken."""
    network_settings: NetworkSettings = NetworkSettings()
    """How the network is used: the size of its images, and which of its modules give maps."""

    @model_validator(mode="after")
    def _digest_is_of_a_file(self) -> "FromFile":
        if self.sha256 and self.published:
            raise ValueError("'sha256' is of a file: published weights are known by their name")
        if self.which and self.published:
            raise ValueError("'which' is of a file: published weights are known by their name")
        return self

    @property
    def published(self) -> bool:
        """Whether the weights are a library's, and no file."""
        return self.weights.startswith(PUBLISHED)


class FineTuned(StrictModel):
    """A teacher that is trained here, and starts from given weights instead of random ones. Its classifier starts anew
    where the weights are of another number of classes."""

    network: NetworkName
    """What the weights are of; in a profile it is the entry's key."""
    start: FilePath
    """A file (.pth, .safetensors), or published weights by name: torchvision:IMAGENET1K_V1, timm:a1_in1k."""
    sha256: str | None = None
    """The hash of the file, which is checked. With it a run's id follows the content and not the path."""
    which: str | None = None
    """Of several weights in a file: raw, averaged, or the name under which they stand."""

    @property
    def weights(self) -> FromFile:
        """What the training starts from."""
        return FromFile(network=self.network, weights=self.start, sha256=self.sha256, which=self.which)

    @model_validator(mode="after")
    def _weights_are_allowed(self) -> "FineTuned":
        _ = self.weights
        return self


def _is_start(data: Any) -> str:
    named = isinstance(data, dict) and "start" in data and "weights" not in data
    return "<start>" if named or isinstance(data, FineTuned) else "<given>"


# an entry of a profile's teachers
TeacherEntry = Annotated[
    Annotated[FineTuned, Tag("<start>")] | Annotated[FromFile, Tag("<given>")], Discriminator(_is_start)
]
