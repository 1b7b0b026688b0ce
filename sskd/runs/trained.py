"""Trained networks for other scripts: ``net, info = load_student(run_folder)``."""

from collections.abc import Iterable
from pathlib import Path
from typing import Annotated, Literal

import torch
from torch import Tensor

from sskd.config.fields import StrictModel, TupleFromList
from sskd.config.networks import NetworkName, NetworkSettings, Statistics
from sskd.config.validation import from_dict
from sskd.data.datasets.registry import Data
from sskd.data.memory_loader import RGB
from sskd.errors import UserError, described
from sskd.methods import METHODS, MethodContext
from sskd.networks import NETWORKS, Network, build_network, feature_shapes
from sskd.networks.weights import load_into
from sskd.runs.files import read_json
from sskd.runs.plugins import load_plugins
from sskd.runs.settings import MethodField
from sskd.runs.spec import RunSpec, StudentSpec, predicts_through_more, read_spec

WEIGHTS, CONFIG = "model.safetensors", "config.json"  # files of an exported folder
EXPORT_FORMAT = 1  # of config.json; higher versions raise an error


class Predictor(StrictModel):
    """The modules that a method has added to its student and predicts with (SimKD: a projector and the teacher's
    classifier). The teacher's network is only needed for shapes; its weights are not loaded."""

    method: MethodField
    """The method and its settings."""
    teacher: NetworkName | None = None
    """Name of the teacher's network."""
    teacher_settings: NetworkSettings = NetworkSettings()
    """Settings of the teacher's network."""


class NetworkInfo(StrictModel):
    """Inputs and outputs of a trained network."""

    network: str
    """Name of the network."""
    image_size: int
    """Side of the images, in pixels."""
    mean: Annotated[RGB, TupleFromList]
    """Per-channel mean, of pixels / 255."""
    std: Annotated[RGB, TupleFromList]
    """Per-channel standard deviation, of pixels / 255."""
    class_names: Annotated[tuple[str, ...], TupleFromList]
    """Name of the class of each logit."""
    network_settings: NetworkSettings = NetworkSettings()
    """Settings of the network."""
    predictor: Predictor | None = None
    """The modules that its method has added; not in network.json."""

    def normalise(self, images: Tensor) -> Tensor:
        """Normalises (N, 3, H, W) uint8, in the size of the training images, for the network."""
        mean, std = (torch.tensor(values, device=images.device).view(3, 1, 1) for values in (self.mean, self.std))
        return (images / 255 - mean) / std


def statistics(images: Data | NetworkInfo) -> Statistics:
    """Returns the normalisation statistics of a data set or of a trained network."""
    return Statistics(images.mean, images.std)


def describe_network(spec: RunSpec, data: Data) -> NetworkInfo:
    """Returns the content of network.json, which a run writes next to its weights."""
    return NetworkInfo(
        network=spec.network,
        image_size=data.image_size,
        mean=data.mean,
        std=data.std,
        class_names=data.class_names,
        network_settings=spec.used_as,
    )


def load_student(
    run_folder: str | Path, epoch: Literal["best", "last", "ema"] = "best", plugins: Iterable[str | Path] = ()
) -> tuple[Network, NetworkInfo]:
    """Loads the network that a run has trained (a student or a teacher), on the CPU in eval mode, with its NetworkInfo.

    epoch: "ema" is the moving average of the weights after the last epoch, if the recipe had one. If the student
    predicts with added modules (SimKD: projector and teacher's classifier), they are included. plugins: files that
    register the network or the method, if they are the user's own; nothing that the folder names is executed. Raises
    UserError if the folder has no such network.
    """
    folder = Path(run_folder)
    file = folder / "network.json"
    if not file.is_file():
        if not folder.is_dir():
            raise UserError(f"there is no run folder {folder}")
        raise UserError(
            f"{folder} has no {file.name}: it belongs to a head or to given weights, or to an earlier version (then "
            "run_all.py --rerun trains it again)"
        )
    load_plugins(map(str, plugins))
    info: NetworkInfo = from_dict(NetworkInfo, read_json(file), str(file))
    NETWORKS[info.network]  # fails first if the plugin that registers the network is missing
    if (folder / "spec.yaml").is_file():  # missing if only weights and network.json were copied
        info = with_predictor(info, read_spec(folder / "spec.yaml"))
    return load_described(info, folder / f"{epoch}.safetensors"), info


def load_exported(folder: str | Path, plugins: Iterable[str | Path] = ()) -> tuple[Network, NetworkInfo]:
    """Loads the network of a folder that ``python -m sskd export`` has written, on the CPU in eval mode, with its
    NetworkInfo. Only needs the folder and this package.

    plugins: files that register the network or its method, if they are the user's own; nothing that the folder names is
    executed. Raises UserError if the folder is not an exported network, is damaged, or has a later format.
    """
    file = Path(folder) / CONFIG
    if not file.is_file():
        raise UserError(f"{folder} is not an exported network: it has no {CONFIG} (python -m sskd export writes it)")
    load_plugins(map(str, plugins))
    try:
        data = read_json(file)
    except UserError:
        raise UserError(f"{file} is damaged: it is not JSON; export the run again") from None
    if not isinstance(data, dict) or not isinstance(data.get("format"), int) or data.get("library_name") != "sskd":
        raise UserError(f"{file} does not describe a network that this package has exported")
    if data["format"] > EXPORT_FORMAT:
        raise UserError(
            f"{file} has format {data['format']}, but this version of sskd reads up to {EXPORT_FORMAT}: update sskd"
        )
    known = {key: value for key, value in data.items() if key in NetworkInfo.model_fields}
    info: NetworkInfo = from_dict(NetworkInfo, known, str(file))
    return load_described(info, Path(folder) / WEIGHTS), info


def load_described(info: NetworkInfo, weights: Path) -> Network:
    """Loads a network with this NetworkInfo, including the modules that its method has added, in eval mode. Raises
    UserError if the weights belong to another network."""
    name, classes, used = info.network, len(info.class_names), info.network_settings
    network = build_network(name, classes, used, statistics(info))
    if info.predictor is not None:
        network = _with_added_modules(network, info.predictor, info)
    load_into(network, weights, name, classes)
    return network.eval()


def with_predictor(info: NetworkInfo, spec: RunSpec) -> NetworkInfo:
    """Returns the NetworkInfo with the modules that the run's method adds for predictions, if it adds any."""
    if not isinstance(spec, StudentSpec) or not predicts_through_more(spec):
        return info
    predictor = Predictor(method=spec.method)
    if spec.teacher is not None:
        used = {"teacher": spec.teacher.network, "teacher_settings": spec.teacher.network_settings}
        predictor = predictor.model_copy(update=used)
    return info.model_copy(update={"predictor": predictor})


def _with_added_modules(student: Network, predictor: Predictor, info: NetworkInfo) -> Network:
    """Returns the student with its method's added modules. The weights of the teacher are not needed: the student's
    weights file contains those that are used."""
    kind, teacher, used = METHODS[predictor.method.name], predictor.teacher, predictor.teacher_settings
    context = MethodContext(
        student=student,
        student_shapes=feature_shapes(info.network, info.image_size, info.network_settings),
        num_classes=len(info.class_names),
        labels=torch.zeros(0, dtype=torch.int64),
        teacher=build_network(teacher, len(info.class_names), used) if teacher else None,
        teacher_shapes=feature_shapes(teacher, info.image_size, used) if teacher else None,
    )
    try:
        return kind(predictor.method, context).predictor(student)
    except UserError:
        raise
    except (Exception, SystemExit) as error:  # from the user's own method
        raise UserError(f"the method '{kind.__name__}' cannot build its predictor: {described(error)}") from None
