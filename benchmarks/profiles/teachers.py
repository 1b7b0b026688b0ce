"""Catalogue of released teacher weights (configs/teachers.yaml), and the search for the weights files of a profile."""

import json
import os
from collections.abc import Iterator, Mapping
from contextlib import suppress
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

import torch

from benchmarks.profiles.profile import mapping, parts
from sskd.config.execution import Execution
from sskd.config.fields import PlainName, StrictModel
from sskd.config.networks import NetworkName, split_zoo
from sskd.config.pretrained import FromFile
from sskd.config.recipe import DatasetSpec
from sskd.config.validation import from_dict
from sskd.config.yaml import read_yaml
from sskd.data.datasets.registry import load_dataset
from sskd.errors import UserError, unknown
from sskd.networks.weights import file_sha256, load_network
from sskd.paths import CONFIGS
from sskd.runs.files import write_json
from sskd.runs.trained import statistics
from sskd.runtime.device import device_of
from sskd.training.evaluation import EvaluationSet, accuracy

CATALOGUE = CONFIGS / "teachers.yaml"
SUFFIXES = (".pth", ".pt", ".tar", ".safetensors")  # of weights files in teachers.folder
TOLERANCE = 0.3  # points between a published accuracy and that of the same weights on another machine


class Weights(StrictModel):
    """A network's weights in a release; configs/teachers.yaml describes the keys."""

    published: float | None = None
    measured: float | None = None
    sha256: str | None = None
    file: str | None = None
    url: str | None = None
    zoo: str | None = None


class Release(StrictModel):
    """Weights that were released together."""

    dataset: PlainName
    page: str
    used_by: str
    format: str
    networks: dict[NetworkName, Weights]


class Teacher(NamedTuple):
    """An entry of the catalogue. name: RELEASE:NETWORK."""

    name: str
    network: str
    release: Release
    weights: Weights

    @property
    def file(self) -> str:
        """Path of the weights file in its release."""
        return self.weights.file or f"{self.network}.pth"

    @property
    def cached(self) -> str:
        """Path of the weights file in the cache."""
        return f"{self.name.replace(':', '/')}/{Path(self.file).name}"


def catalogue() -> dict[str, Teacher]:
    """Returns all entries by name, in the file's order."""
    return _read(CATALOGUE)


@cache
def _read(path: Path) -> dict[str, Teacher]:
    found: dict[str, Teacher] = {}
    for name, data in read_yaml(path).items():
        release: Release = from_dict(Release, data, f"{path}: {name}")
        for network, weights in release.networks.items():
            key = f"{name}:{split_zoo(network)[1]}"
            found[key] = Teacher(key, network, release, weights)
    return found


def rows() -> list[dict[str, Any]]:
    """Returns a row for each entry, for run_all.py list teachers."""
    return [
        {
            "name": teacher.name,
            "network": teacher.network,
            "dataset": teacher.release.dataset,
            "top1": teacher.weights.model_dump(include={"published", "measured"}, exclude_none=True),
            "sha256": teacher.weights.sha256,
            "format": teacher.release.format,
            "used_by": teacher.release.used_by,
            "page": teacher.release.page,
            "weights": teacher.weights.url or teacher.weights.zoo,
        }
        for teacher in catalogue().values()
    ]


def with_teachers_found(data: dict[str, Any]) -> dict[str, Any]:
    """Returns a profile's data with the catalogue's names replaced by files, the entries with the names of their
    networks, and without ``teachers.folder``. The data may be invalid.

    Weights that an entry names by the catalogue ("crd:resnet56") are taken from the folder, else from the cache, else
    downloaded. If the file of an entry is missing, a file in the folder with the same sha256 replaces it. If the folder
    has released weights of further networks for the profile's data set, these become teachers too; if several releases
    have a network, the first in the catalogue is used. Raises UserError if weights are not found or differ from the
    released ones.
    """
    given = mapping(data, "teachers")
    named = given.pop("folder", None)
    if named is not None and not (isinstance(named, str) and os.path.isdir(os.path.expanduser(named))):
        raise UserError(f"teachers.folder: there is no folder {named}")
    folder = None if named is None else Path(named).expanduser()
    for part in parts(data):
        teachers = mapping(part, "teachers")
        for network, entry in teachers.items():
            teachers[network] = {"network": network} | _found(entry, folder) if isinstance(entry, dict) else entry
    if folder is not None:
        for teacher in _files().values():
            if teacher.release.dataset == mapping(data, "dataset").get("name") and teacher.network not in given:
                path = _in_folder(teacher, folder)
                if path is not None:
                    given[teacher.network] = {"network": teacher.network} | _weights(path)
    return data


def _files() -> dict[str, Teacher]:
    """Returns the entries of the catalogue whose weights are files. Others are downloaded by the library of their
    zoo."""
    return {name: teacher for name, teacher in catalogue().items() if teacher.weights.zoo is None}


def _weights(path: Path) -> dict[str, str]:
    return {"weights": str(path), "sha256": _sha256(path)}


def _found(entry: dict[str, Any], folder: Path | None) -> dict[str, Any]:
    """Returns the entry with the path of its weights file, if it names weights of the catalogue, or if a file in the
    folder has its sha256. Returns other entries unchanged."""
    weights, released = str(entry.get("weights")), _files()
    if weights in released:
        return entry | _weights(_file(released[weights], folder))
    release, colon, _ = weights.partition(":")
    if colon and any(name.startswith(f"{release}:") for name in released) and not os.path.exists(weights):
        raise unknown("released weights", weights, catalogue())
    if folder is not None and not os.path.isfile(weights) and entry.get("sha256") in (hashes := _hashes(folder)):
        return entry | {"weights": str(hashes[entry["sha256"]])}
    return entry


def _file(teacher: Teacher, folder: Path | None) -> Path:
    """Returns the weights file from the folder, else from the cache, else downloads it into the cache."""
    path = _in_folder(teacher, folder) if folder is not None else None
    if path is not None:
        return path
    cached = Path(torch.hub.get_dir()) / "sskd_teachers" / teacher.cached
    if cached.is_file():
        return _checked(teacher, cached)
    if teacher.weights.url is None:
        where = f"not in {folder}" if folder is not None else "not here"
        raise UserError(
            f"{teacher.name} is {where}: download it from {teacher.release.page}, and give its folder with "
            "--set teachers.folder=DIR"
        )
    try:
        cached.parent.mkdir(parents=True, exist_ok=True)
        torch.hub.download_url_to_file(
            teacher.weights.url, str(cached), hash_prefix=teacher.weights.sha256, progress=False
        )
    except (OSError, RuntimeError, ValueError) as error:  # no network, another file, no such address
        reason = " ".join(str(error).split())[:150]
        raise UserError(
            f"{teacher.name} could not be downloaded from {teacher.weights.url} ({reason}): download it from "
            f"{teacher.release.page}, and give its folder with --set teachers.folder=DIR"
        ) from None
    return cached


def _in_folder(teacher: Teacher, folder: Path) -> Path | None:
    """Returns the file with the entry's sha256, else the file with its name, else None. Raises UserError if the file
    with its name has another sha256."""
    by_hash = _hashes(folder).get(teacher.weights.sha256 or "")
    if by_hash is not None:
        return by_hash
    named = next((path for path in _weights_files(folder) if f"/{path.as_posix()}".endswith(f"/{teacher.file}")), None)
    return _checked(teacher, named) if named is not None else None


def _checked(teacher: Teacher, path: Path) -> Path:
    expected = teacher.weights.sha256
    if expected is not None and (found := _sha256(path)) != expected:
        raise UserError(f"{path} is not {teacher.name}: its sha256 is {found}, not {expected}")
    return path


def _weights_files(folder: Path) -> Iterator[Path]:
    return (path for path in sorted(folder.rglob("*")) if path.suffix in SUFFIXES and path.is_file())


def _hashes(folder: Path) -> Mapping[str, Path]:
    return {_sha256(path): path for path in _weights_files(folder)}


def _sha256(path: Path) -> str:
    """Returns the file's sha256, which is computed once as long as the file does not change."""
    return _hash(path, path.stat().st_mtime_ns)


@cache
def _hash(path: Path, changed: int) -> str:
    return file_sha256(path)


def check_accuracy(given: FromFile, dataset: DatasetSpec, execution: Execution) -> str:
    """Evaluates weights of the catalogue whose sha256 is unknown. The result is stored next to the file, so that they
    are evaluated only once.

    Returns a line for the user, or "" if there is nothing to check. Raises UserError if the accuracy differs from the
    published one.
    """
    teacher = next((t for t in _files().values() if _is_of(t, given, dataset)), None)
    if teacher is None or teacher.weights.sha256 is not None or teacher.weights.published is None:
        return ""
    path, note = Path(given.weights), Path(f"{given.weights}.json")
    digest = file_sha256(path)
    with suppress(OSError, ValueError, TypeError, KeyError):  # not measured yet
        if json.loads(note.read_bytes())["sha256"] == digest:
            return ""
    data = load_dataset(dataset, Path(execution.dataset_root))
    test, settings = EvaluationSet(data, device_of(execution), "fp32"), given.network_settings
    network = load_network(path, given.network, data.num_classes, settings, given.which, images=statistics(data))
    network = network.to(test.device).to(memory_format=test.layout)
    top1 = accuracy(network, test)["top1"]
    if abs(top1 - teacher.weights.published) > TOLERANCE:
        raise UserError(
            f"{path} is not {teacher.name}: its top-1 accuracy is {top1:.2f} %, expected the published "
            f"{teacher.weights.published:.2f} %; delete the file"
        )
    with suppress(OSError, UserError):  # a folder that may only be read: it is measured again next time
        write_json(note, {"sha256": digest, "top1": top1})
    return f"{teacher.name}: {top1:.2f} % top-1, as published ({teacher.weights.published:.2f} %)\n"


def _is_of(teacher: Teacher, given: FromFile, dataset: DatasetSpec) -> bool:
    """Returns True if the weights file has the path of this entry, in a folder or in the cache, and the same network
    and data set."""
    path = Path(given.weights).as_posix()
    same = teacher.network == given.network and teacher.release.dataset == dataset.name
    return same and f"/{path}".endswith((f"/{teacher.file}", f"/{teacher.cached}"))
