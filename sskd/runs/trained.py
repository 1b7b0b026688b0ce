"""Trained networks for other scripts: ``net, info = load_student(run_folder)``."""

from collections.abc import Iterable
from pathlib import Path
from typing import Annotated, Any, Literal

import torch
from torch import Tensor

from sskd.config.fields import StrictModel, TupleFromList
from sskd.config.networks import NetworkName, NetworkSettings, Statistics
from sskd.config.recipe import Recipe
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

WEIGHTS, CONFIG = "model.safetensors", "config.json"  # of an exported folder
EXPORT_FORMAT = 1  # of config.json; a reader refuses a higher one


class Predictor(StrictModel):
    """What a method has built around its student, and predicts with (SimKD: a projector and the teacher's classifier).
    The teacher is named for the shapes that follow from it; its weights are not needed."""

    method: MethodField
    """The method and its settings."""
    teacher: NetworkName | None = None
    """The network of the teacher."""
    teacher_settings: NetworkSettings = NetworkSettings()
    """How that is used."""


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
    predictor: Predictor | None = None
    """Of an exported network: what its method has built around it."""

    def normalise(self, images: Tensor) -> Tensor:
        """(N, 3, H, W) uint8, of the training images' size, as the network takes them."""
        mean, std = (torch.tensor(values, device=images.device).view(3, 1, 1) for values in (self.mean, self.std))
        return (images / 255 - mean) / std


def statistics(images: Data | NetworkInfo) -> Statistics:
    """What a data set's images, or a trained network's, are normalised with."""
    return Statistics(images.mean, images.std)


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
    if not (folder / "spec.yaml").is_file():  # weights and network.json alone, taken elsewhere
        return _with_weights(info, folder / f"{epoch}.safetensors"), info
    spec, classes = read_spec(folder / "spec.yaml"), len(info.class_names)
    network = load_trained(spec, folder / f"{epoch}.safetensors", classes, info.image_size, statistics(info))
    return network.eval(), info


def load_exported(folder: str | Path, plugins: Iterable[str | Path] = ()) -> tuple[Network, NetworkInfo]:
    """The network of a folder that ``python -m sskd export`` has written, on the CPU in eval mode, and what its images
    are. Needs nothing but the folder and this package.

    plugins: the files that register the network or its method, where they are the user's own; nothing that the folder
    names is executed. UserError where the folder is none, is damaged, or is of a later version.
    """
    file = Path(folder) / CONFIG
    if not file.is_file():
        raise UserError(f"{folder} is no exported network: it has no {CONFIG} (python -m sskd export writes it)")
    load_plugins(map(str, plugins))
    try:
        data = read_json(file)
    except UserError:
        raise UserError(f"{file} is damaged: it is no JSON; export the run again") from None
    if not isinstance(data, dict) or not isinstance(data.get("format"), int) or data.get("library_name") != "sskd":
        raise UserError(f"{file} is of something else than a network that this package has exported")
    if data["format"] > EXPORT_FORMAT:
        raise UserError(
            f"{file} has format {data['format']}, of a later version of sskd: this one reads up to {EXPORT_FORMAT}"
        )
    known = {key: value for key, value in data.items() if key in NetworkInfo.model_fields}
    info: NetworkInfo = from_dict(NetworkInfo, known, str(file))
    return _with_weights(info, Path(folder) / WEIGHTS), info


def _with_weights(info: NetworkInfo, weights: Path) -> Network:
    classes, used = len(info.class_names), info.network_settings
    network = build_network(info.network, classes, used, statistics(info))
    if info.predictor is not None:
        network = _built(info.predictor, network, used, info.network, classes, info.image_size)
    load_into(network, weights, info.network, classes)
    return network.eval()


def load_trained(spec: RunSpec, weights: Path, num_classes: int, image_size: int, images: Statistics) -> Network:
    """The network that the run has trained, with these weights of it: the student's, or what its method has built
    around that. image_size: of the training images, pixels of a side; images: what they are normalised with. UserError
    if the weights are not of that network."""
    network = build_network(spec.network, num_classes, spec.used_as, images)
    predictor = predictor_of(spec)
    if predictor is not None:
        network = _built(predictor, network, spec.used_as, spec.network, num_classes, image_size, spec.recipe)
    load_into(network, weights, spec.network, num_classes)
    return network


def predictor_of(spec: RunSpec) -> Predictor | None:
    """What the run's method builds around its student; None where the student predicts by itself."""
    if not isinstance(spec, StudentSpec) or not predicts_through_more(spec):
        return None
    teacher = spec.teacher
    if teacher is None:
        return Predictor(method=spec.method)
    return Predictor(method=spec.method, teacher=teacher.network, teacher_settings=teacher.network_settings)


def _built(
    predictor: Predictor,
    student: Network,
    used_as: NetworkSettings,
    name: str,
    num_classes: int,
    image_size: int,
    recipe: Recipe | None = None,
) -> Network:
    """What the method builds around the student. Of its teacher only what becomes a part of the student counts, and the
    student's weights hold that."""
    kind, teacher, used = METHODS[predictor.method.name], predictor.teacher, predictor.teacher_settings
    context = MethodContext(
        student=student,
        student_shapes=feature_shapes(name, image_size, used_as),
        num_classes=num_classes,
        labels=torch.zeros(0, dtype=torch.int64),
        teacher=build_network(teacher, num_classes, used) if teacher else None,
        teacher_shapes=feature_shapes(teacher, image_size, used) if teacher else None,
        recipe=recipe or Recipe(),
    )
    try:
        return kind(predictor.method, context).predictor(student)
    except UserError:
        raise
    except (Exception, SystemExit) as error:  # of a method of the user's own
        raise UserError(f"the method '{kind.__name__}' cannot build its predictor: {described(error)}") from None
