"""Trained networks for other scripts: ``net, info = load_student(run_folder)``."""

from collections.abc import Iterable
from pathlib import Path
from typing import Annotated, Any, Literal

import torch
from torch import Tensor

from sskd.config.fields import StrictModel, TupleFromList
from sskd.config.validation import from_dict
from sskd.data.datasets.registry import Data
from sskd.data.memory_loader import RGB
from sskd.errors import UserError
from sskd.networks import Network
from sskd.networks.weights import load_network
from sskd.runs.plugins import load_plugins
from sskd.runs.run_folder import read_json


class NetworkInfo(StrictModel):
    """What a trained network's images and answers are."""

    network: str
    """Its name."""
    image_size: int
    """Pixels of a side."""
    mean: Annotated[RGB, TupleFromList]
    """By channel, of pixels / 255."""
    std: Annotated[RGB, TupleFromList]
    """By channel, of pixels / 255."""
    class_names: Annotated[tuple[str, ...], TupleFromList]
    """By the number of the logit."""

    def normalise(self, images: Tensor) -> Tensor:
        """(N, 3, H, W) uint8, of the training images' size, as the network takes them."""
        mean, std = (torch.tensor(values, device=images.device).view(3, 1, 1) for values in (self.mean, self.std))
        return (images / 255 - mean) / std


def describe_network(network: str, data: Data) -> dict[str, Any]:
    """What a run writes beside its weights (network.json)."""
    info = NetworkInfo(
        network=network, image_size=data.image_size, mean=data.mean, std=data.std, class_names=data.class_names
    )
    return info.model_dump(mode="json")


def load_student(
    run_folder: str | Path, epoch: Literal["best", "last"] = "best", plugins: Iterable[str | Path] = ()
) -> tuple[Network, NetworkInfo]:
    """The network that a run (of a student or a teacher) has trained, on the CPU in eval mode, and what its images are.

    plugins: the files that register the network, where it is one of the user's own; nothing that the folder names is
    executed. UserError where the folder has no such network.
    """
    folder = Path(run_folder)
    file = folder / "network.json"
    if not file.is_file():
        if not folder.is_dir():
            raise UserError(f"there is no run folder {folder}")
        raise UserError(
            f"{folder} has no {file.name}: it is a head's, or trained nothing, or is of an earlier version (then "
            "run_all.py --rerun trains it anew)"
        )
    load_plugins(map(str, plugins))
    info: NetworkInfo = from_dict(NetworkInfo, read_json(file), str(file))
    network = load_network(folder / f"{epoch}.safetensors", info.network, len(info.class_names))
    return network.eval(), info
