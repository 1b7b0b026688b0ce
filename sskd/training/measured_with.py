"""What a run's numbers were measured with, as its result notes it: two runs are compared where these are equal."""

import hashlib
from functools import lru_cache
from pathlib import Path
from typing import Any

from torch import Tensor

from sskd.data.datasets.registry import ImageData
from sskd.networks.fingerprint import network_sha256
from sskd.networks.weights import file_sha256
from sskd.runs.records import ExecutedAs, MeasuredWith
from sskd.runs.run_folder import RunFolder
from sskd.runs.spec import RunSpec, StudentSpec, Trained
from sskd.training.setup import Setup


def measured_with(setup: Setup) -> dict[str, Any]:
    """The run's part of the comparability card; see records.MeasuredWith."""
    spec, data, execution = setup.spec, setup.data, setup.execution
    head = spec.head if isinstance(spec, StudentSpec) else None
    noted = MeasuredWith(
        network=network_sha256(spec.network, data.num_classes, spec.used_as),
        teacher=teacher_sha256(spec, setup.runs),
        head=file_sha256(RunFolder(setup.runs, head).weights("last")) if head else None,
        split=_tensors_sha256(setup.split.indices, setup.split.labels),
        pixels=_pixels_sha256(data) if isinstance(data, ImageData) else None,
        image_size=data.image_size,
        mean=list(data.mean),
        std=list(data.std),
        execution=ExecutedAs(
            channels_last=execution.channels_last, fold_teacher=execution.fold_teacher, compile=execution.compile
        ),
    )
    return noted.model_dump(mode="json")


def teacher_sha256(spec: RunSpec, runs: Path) -> str | None:
    """Of the weights that teach; published ones by their name. None without a teacher."""
    if spec.teacher is None:
        return None
    if isinstance(spec.teacher, Trained):
        return file_sha256(RunFolder(runs, spec.teacher.run).weights(spec.teacher.epoch))
    given = spec.teacher
    content = given.weights if given.published else given.sha256 or file_sha256(Path(given.weights))
    return f"{content} {given.which}" if given.which else content  # one file may hold several teachers


@lru_cache(maxsize=1)  # as load_dataset: the runs of a suite share their data
def _pixels_sha256(data: ImageData) -> str:
    return _tensors_sha256(data.train_images, data.test_images, data.test_labels)


def _tensors_sha256(*tensors: Tensor) -> str:
    digest = hashlib.sha256()
    for tensor in tensors:
        digest.update(f"{tuple(tensor.shape)}".encode())
        digest.update(tensor.cpu().contiguous().numpy().data)
    return digest.hexdigest()
