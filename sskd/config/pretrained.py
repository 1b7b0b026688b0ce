"""A network whose weights are given."""

from pydantic import (
    model_validator,
)

from sskd.config.fields import PlainName, StrictModel

PUBLISHED = "torchvision:"  # before the name of weights that torchvision publishes


class Pretrained(StrictModel):
    """A network whose weights come from a file, or are torchvision's ("torchvision:IMAGENET1K_V1"). With ``sha256`` of
    a file the id follows the content, not the path."""

    network: PlainName
    """What the weights are of: run_all.py --list networks names them."""
    weights: str
    """A file (.pth, .safetensors), or torchvision's by name: torchvision:IMAGENET1K_V1."""
    sha256: str | None = None
    """The hash of the file, which is checked. With it a run's id follows the content and not the path."""

    @model_validator(mode="after")
    def _digest_is_of_a_file(self) -> "Pretrained":
        if self.sha256 and self.published:
            raise ValueError("'sha256' is of a file: torchvision's weights have a hash in their own name")
        return self

    @property
    def published(self) -> bool:
        """Whether the weights are torchvision's, and no file."""
        return self.weights.startswith(PUBLISHED)
