"""Trained networks for other scripts: ``net, info = load_student(run_folder)``."""

from collections.abc import Iterable
from pathlib import Path
from typing import Annotated, Any, Literal

import torch
from torch import Tensor

from sskd.config.fields import StrictModel, TupleFromList
from sskd.config.networks import NetworkSettings
from sskd.config.validation import from_dict
from sskd.data.datasets.registry import Data
from sskd.data.memory_loader import RGB
from sskd.errors import UserError, described
from sskd.methods import METHODS, Method, MethodContext
from sskd.networks import NETWORKS, Network, build_network, feature_shapes
from sskd.networks.weights import load_into
from sskd.runs.plugins import load_plugins
from sskd.runs.run_folder import read_json
from sskd.runs.spec import RunSpec, StudentSpec, read_spec


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
    network_settings: NetworkSettings = NetworkSettings()
    """How the network is used."""

    def normalise(self, images: Tensor) -> Tensor:
        """(N, 3, H, W) uint8, of the training images' size, as the network takes them."""
        mean, std = (torch.tensor(values, device=images.device).view(3, 1, 1) for values in (self.mean, self.std))
        return (images / 255 - mean) / std


def describe_network(network: str, data: Data, settings: NetworkSettings) -> dict[str, Any]:
    """What a run writes beside its weights (network.json)."""
    info = NetworkInfo(
        network=network,
        image_size=data.image_size,
        mean=data.mean,
        std=data.std,
        class_names=data.class_names,
        network_settings=settings,
    )
    return info.model_dump(mode="json")


def load_student(
    run_folder: str | Path, epoch: Literal["best", "last"] = "best", plugins: Iterable[str | Path] = ()
) -> tuple[Network, NetworkInfo]:
    """The network that a run (of a student or a teacher) has trained, on the CPU in eval mode, and what its images are.

    Of a student that predicts through more than its network (SimKD's, through its projector and its teacher's
    classifier) it is the whole. plugins: the files that register the network or the method, where they are the user's
    own; nothing that the folder names is executed. UserError where the folder has no such network.
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
    NETWORKS[info.network]  # before the spec is read: this is what plugins are most often forgotten for
    classes, weights = len(info.class_names), folder / f"{epoch}.safetensors"
    if (folder / "spec.yaml").is_file():
        network = load_trained(read_spec(folder / "spec.yaml"), weights, classes, info.image_size)
    else:  # weights and network.json alone, taken elsewhere
        network = build_network(info.network, classes, info.network_settings)
        load_into(network, weights, info.network, classes)
    return network.eval(), info


def load_trained(spec: RunSpec, weights: Path, num_classes: int, image_size: int) -> Network:
    """The network that the run has trained, with these weights of it: the student's, or what its method has built
    around that. image_size: of the training images, pixels of a side. UserError if they are not of that network."""
    network = build_network(spec.network, num_classes, spec.used_as)
    if isinstance(spec, StudentSpec):
        kind = METHODS[spec.method.name]
        if kind.predictor is not Method.predictor:
            network = _predictor(spec, network, kind, num_classes, image_size)
    load_into(network, weights, spec.network, num_classes)
    return network


def _predictor(spec: StudentSpec, student: Network, kind: type[Method], num_classes: int, image_size: int) -> Network:
    """What the method builds around the student. Of its teacher only what becomes a part of the student counts, and the
    student's weights hold that."""
    given = spec.teacher
    context = MethodContext(
        student=student,
        student_shapes=feature_shapes(spec.network, image_size, spec.used_as),
        num_classes=num_classes,
        labels=torch.zeros(0, dtype=torch.int64),
        teacher=build_network(given.network, num_classes, given.network_settings) if given else None,
        teacher_shapes=feature_shapes(given.network, image_size, given.network_settings) if given else None,
        recipe=spec.recipe,
    )
    try:
        return kind(spec.method, context).predictor(student)
    except UserError:
        raise
    except (Exception, SystemExit) as error:  # of a method of the user's own
        raise UserError(f"the method '{kind.__name__}' cannot build its predictor: {described(error)}") from None
