"""Loads networks from state dicts of other training scripts, from published weights, and from this project's runs."""

import hashlib
import os
from collections.abc import Callable
from pathlib import Path
from typing import BinaryIO

import torch
from torch import Tensor

from sskd.config.networks import PUBLISHED, NetworkSettings, Statistics
from sskd.config.pretrained import FromFile
from sskd.errors import UserError
from sskd.formatting import first_of
from sskd.networks import NETWORKS, Network, build_network
from sskd.networks.build import PLAIN
from sskd.networks.states import choose, find_states, nearest_state
from sskd.networks.weight_file import read_tensors
from sskd.networks.zoo import fetch_weights, find_weights


def load_network(
    path: str | Path,
    name: str,
    num_classes: int,
    settings: NetworkSettings = PLAIN,
    which: str | None = None,
    log: Callable[[str], None] = lambda _: None,
    images: Statistics | None = None,
) -> Network:
    """Returns the network ``name`` with the weights of ``path``. No code from the file is executed.

    path: a torch.save or safetensors file with a state dict under any prefix, or the name of published weights
    ("torchvision:NAME", "timm:NAME"). which: "raw", "averaged", or the name of a key, if the file holds several weights
    that fit. log: gets one line about that choice. images: see build_network. Raises UserError if the file is missing
    or damaged, or belongs to another network or number of classes.
    """
    network = build_network(name, num_classes, settings, images)
    load_into(network, path, name, num_classes, which, log)
    return network


def load_into(
    network: Network,
    path: str | Path,
    name: str,
    num_classes: int,
    which: str | None = None,
    log: Callable[[str], None] = lambda _: None,
    new_classifier: bool = False,
) -> None:
    """Loads the weights of ``path`` into ``network``, as ``load_network``. name: the network's name in errors.
    new_classifier: the network keeps its classifier if the file's has another shape."""
    tensors = _tensors(name, path)
    found = find_states(tensors, network)
    fits = [state for state in found if not _mismatch(state.tensors, network, new_classifier)]
    problem, hint = "", ""
    if fits:
        chosen, note = choose(fits, which, f"{path}", name)
        expected = network.state_dict()
        taken = {key: value for key, value in chosen.tensors.items() if value.shape == expected[key].shape}
        problem = _unusable(taken, expected)
    else:
        state = found[0] if found else nearest_state(tensors, network)
        problem, hint = _mismatch(state.tensors, network, new_classifier), _fits(name, tensors)
    if problem:
        raise UserError(f"{path} does not hold the weights of {name} with {num_classes} classes: {problem}{hint}")
    network.load_state_dict(taken, strict=False)
    if note:
        log(note)


def _tensors(name: str, path: str | Path) -> dict[str, Tensor]:
    return fetch_weights(name, str(path)) if str(path).startswith(PUBLISHED) else read_tensors(existing(path))


def check_weights(teacher: FromFile) -> None:
    """Raises UserError if the weights file does not exist or has another sha256. Does not load it."""
    if teacher.published:
        find_weights(teacher.network, teacher.weights)
        return
    path = existing(teacher.weights)
    if teacher.sha256 is not None and (found := file_sha256(path)) != teacher.sha256:
        raise UserError(
            f"{path} is not the expected file: its sha256 is {found}, not {teacher.sha256}; correct sha256 or the path"
        )


def check_fits(
    given: FromFile, num_classes: int, log: Callable[[str], None] = lambda _: None, new_classifier: bool = False
) -> None:
    """Raises UserError if the weights belong to another network or number of classes. Does not download. log: see
    ``load_network``. new_classifier: training starts from the weights, so their number of classes may differ."""
    if not given.published:
        network = build_network(given.network, num_classes, given.network_settings)
        load_into(network, given.weights, given.network, num_classes, given.which, log, new_classifier)
        return
    known = find_weights(given.network, given.weights).num_classes
    if known != num_classes and not new_classifier:
        raise UserError(
            f"{given.weights} has {known} classes, but the data set has {num_classes}: to train a teacher on these "
            "classes, give the weights as its 'start' instead of its 'weights'"
        )


def file_sha256(path: Path) -> str:
    """Returns the sha256 of the file's content, in hex. Raises UserError if it cannot be read."""
    try:
        with path.open("rb") as file:
            return sha256_of(file)
    except OSError as error:
        raise UserError(f"cannot read {path}: {error.strerror}") from None


def sha256_of(file: BinaryIO) -> str:
    """Returns the sha256, in hex, of the rest of an open file."""
    digest = hashlib.sha256()
    while part := file.read(2**20):
        digest.update(part)
    return digest.hexdigest()


def existing(path: str | Path) -> Path:
    """Returns the path. Raises UserError if there is no such file."""
    if os.path.isdir(path):
        raise UserError(f"no weights file {path}: it is a folder; give the path of a file")
    if not os.path.isfile(path):  # unlike Path.is_file, False if access is denied
        raise UserError(f"no weights file {path}")
    return Path(path)


def _mismatch(state: dict[str, Tensor], network: Network, new_classifier: bool = False) -> str:
    """Returns why a state dict cannot be loaded, in a few words, or "". new_classifier: the classifier's shape may
    differ."""
    expected, classifier = network.state_dict(), f"{network.tail[-1]}."
    missing = [key for key in expected if key not in state and not key.endswith("num_batches_tracked")]
    extra = [key for key in state if key not in expected]
    if missing or extra:
        parts = [("lacks", missing), ("has unknown", extra)]
        return "; ".join(f"it {verb} {first_of(keys)}" for verb, keys in parts if keys)
    for key, value in expected.items():
        of_classifier = key.startswith(classifier)
        if key not in state or state[key].shape == value.shape or (new_classifier and of_classifier):
            continue
        if of_classifier and state[key].dim() and state[key].shape[1:] == value.shape[1:]:
            return f"its classifier has {len(state[key])} classes"
        return f"{key} has shape {tuple(state[key].shape)}, not {tuple(value.shape)}"
    return ""


FLOATS = (torch.float16, torch.bfloat16, torch.float32, torch.float64)


def _unusable(state: dict[str, Tensor], expected: dict[str, Tensor]) -> str:
    """Returns why the values of tensors with the right names and shapes cannot be used, in a few words, or "". It runs
    after the check of shapes, because a damaged file may claim tensors that do not fit in memory."""
    for key, target in expected.items():
        if key not in state:
            continue
        value = state[key]
        if value.layout != torch.strided or value.device.type != "cpu" or value.is_quantized:
            return f"{key} is not a plain tensor, but sparse, quantised, or without values"
        whole = not target.is_floating_point()
        if value.dtype not in FLOATS and not (whole and value.dtype in (torch.int64, torch.int32)):
            return f"{key} holds {str(value.dtype).removeprefix('torch.')}, not floating-point numbers"
        kept = value.to(target.dtype)
        if not torch.isfinite(kept).all():
            return f"{key} has values that are not finite"
        if key.endswith("running_var") and kept.numel() and kept.min() < 0:
            return f"{key} has negative variances"
    return ""


def _fits(asked: str, tensors: dict[str, Tensor]) -> str:
    """Returns a hint that names another registered network that the weights fit, or ""."""
    for name in NETWORKS:
        with torch.device("meta"):
            network = build_network(name, 2)
        for state in find_states(tensors, network) if name != asked else ():
            if not _mismatch(state.tensors, network, new_classifier=True):
                classifier = f"{network.tail[-1]}."
                classes = next(len(value) for key, value in state.tensors.items() if key.startswith(classifier))
                return f". It fits {name} with {classes} classes"
    return ""
