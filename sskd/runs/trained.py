"""Trained networks for other scripts: ``net, info = load_student(run_folder)``, ``load_exported(exported_folder)``."""

from collections.abc import Iterable
from pathlib import Path
from typing import Annotated, Any, Literal

import torch
from torch import Tensor

from sskd.config.fields import PlainName, StrictModel, TupleFromList
from sskd.config.validation import from_dict
from sskd.data.datasets.registry import Data
from sskd.data.memory_loader import RGB
from sskd.errors import UserError
from sskd.methods import METHODS, Method, MethodContext
from sskd.networks import Network, build_network, feature_shapes
from sskd.networks.weights import load_into
from sskd.runs.plugins import load_plugins
from sskd.runs.run_folder import read_json
from sskd.runs.settings import MethodField
from sskd.runs.spec import RunSpec, StudentSpec

WEIGHTS, CONFIG = "model.safetensors", "config.json"  # of an exported folder
EXPORT_FORMAT = 1  # of config.json; a reader refuses a higher one


class Predictor(StrictModel):
    """What a method has built around its student, and predicts with (SimKD: a projector and the teacher's classifier).
    The teacher is named for the shapes that follow from it; its weights are not needed."""

    method: MethodField
    """The method and its settings."""
    teacher: PlainName
    """The network of the teacher."""


class NetworkInfo(StrictModel):
    """What a trained network's images and answers are. mean and std: by channel, of pixels / 255; image_size: pixels
    of a side; class_names: by the number of the logit."""

    network: str
    image_size: int
    mean: Annotated[RGB, TupleFromList]
    std: Annotated[RGB, TupleFromList]
    class_names: Annotated[tuple[str, ...], TupleFromList]
    predictor: Predictor | None = None

    def normalise(self, images: Tensor) -> Tensor:
        """(N, 3, H, W) uint8, of the training images' size, as the network takes them."""
        mean, std = (torch.tensor(values, device=images.device).view(3, 1, 1) for values in (self.mean, self.std))
        return (images / 255 - mean) / std


def describe_network(spec: RunSpec, data: Data) -> dict[str, Any]:
    """What a run writes beside its weights (network.json)."""
    predictor = None
    if isinstance(spec, StudentSpec) and spec.teacher is not None:
        own = METHODS[spec.method.name].predictor is not Method.predictor
        predictor = Predictor(method=spec.method, teacher=spec.teacher.network) if own else None
    info = NetworkInfo(
        network=spec.network,
        image_size=data.image_size,
        mean=data.mean,
        std=data.std,
        class_names=data.class_names,
        predictor=predictor,
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
    return _load(folder / f"{epoch}.safetensors", info), info


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
    return _load(Path(folder) / WEIGHTS, info), info


def _load(weights: Path, info: NetworkInfo) -> Network:
    network, name = build_network(info.network, len(info.class_names)), info.network
    if info.predictor is not None:
        network, name = _build_predictor(network, info, info.predictor), f"{name} with {info.predictor.method.name}"
    return load_into(network, weights, name, len(info.class_names)).eval()


def _build_predictor(student: Network, info: NetworkInfo, predictor: Predictor) -> Network:
    """What the method builds around its student, with weights that are still to come."""
    classes, method = len(info.class_names), METHODS[predictor.method.name]
    context = MethodContext(
        student=student,
        student_shapes=feature_shapes(info.network, info.image_size),
        num_classes=classes,
        labels=torch.zeros(classes, dtype=torch.int64),  # none are learned from
        teacher=build_network(predictor.teacher, classes),
        teacher_shapes=feature_shapes(predictor.teacher, info.image_size),
    )
    return method(predictor.method, context).predictor(student)
