"""Loads networks from state dicts of other training scripts, from published weights, and from this project's runs."""

import hashlib
import os
import re
from collections.abc import Callable
from functools import lru_cache
from pathlib import Path
from typing import BinaryIO

import torch
from torch import Tensor, nn

from sskd.config.networks import PUBLISHED, NetworkSettings, Statistics
from sskd.config.pretrained import FromFile
from sskd.errors import UserError
from sskd.formatting import first_of
from sskd.networks import NETWORKS, Network, build_network
from sskd.networks.build import PLAIN
from sskd.networks.states import RENAMED, choose, find_states, nearest_state
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
    note = load_into(network, path, name, num_classes, which)
    if note:
        log(note)
    return network


def load_into(
    network: Network,
    path: str | Path,
    name: str,
    num_classes: int,
    which: str | None = None,
    new_classifier: bool = False,
) -> str:
    """Loads the weights of ``path`` into ``network``, as ``load_network``. Returns a note on the choice, or "". name:
    the network's name in errors. new_classifier: the network keeps its classifier if the file's has another shape."""
    expected, free = network.state_dict(), f"{network.tail[-1]}." if new_classifier else None
    tensors = _tensors(name, path)
    found = find_states(tensors, network)
    fits = [state for state in found if not _mismatch(state.tensors, expected, free)]
    if not fits:
        state = found[0] if found else nearest_state(tensors, network)
        problem = _mismatch(state.tensors, expected, free)
        hint = _fits(name, tensors)
        raise UserError(f"{path} does not hold the weights of {name} with {num_classes} classes: {problem}{hint}")
    chosen, note = choose(fits, which, f"{path}", name)
    taken = {key: value for key, value in chosen.tensors.items() if value.shape == expected[key].shape}
    problem = _unusable(taken, expected)
    if problem:
        raise UserError(f"{path} does not hold the weights of {name} with {num_classes} classes: {problem}")
    network.load_state_dict(taken, strict=False)
    return note


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


def check_start(start: FromFile, num_classes: int, log: Callable[[str], None] = lambda _: None) -> None:
    """Raises UserError if a network with ``num_classes`` classes cannot start from the weights. Does not download."""
    check_weights(start)
    if not start.published:
        start_from(build_network(start.network, num_classes), start, num_classes, log)


def start_from(
    network: Network, start: FromFile, num_classes: int, log: Callable[[str], None] = lambda _: None
) -> None:
    """Loads the weights that training starts from. The network keeps its classifier if the weights have another number
    of classes. Raises UserError if they belong to another network."""
    note = load_into(network, start.weights, start.network, num_classes, start.which, new_classifier=True)
    if note:
        log(note)


def check_classes(teacher: FromFile, num_classes: int, log: Callable[[str], None] = lambda _: None) -> None:
    """Raises UserError if the weights belong to another network or number of classes. Does not download. log: see
    ``load_network``."""
    if not teacher.published:
        load_network(
            teacher.weights, teacher.network, num_classes, teacher.network_settings, which=teacher.which, log=log
        )
        return
    known = find_weights(teacher.network, teacher.weights).num_classes
    if known != num_classes:
        raise UserError(
            f"{teacher.weights} has {known} classes, but the data set has {num_classes}: to train a teacher on these "
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


CLASSIFIERS = ("fc.", "linear.", "classifier.", "head.", "heads.")  # prefixes of a classifier's tensors


def _mismatch(state: dict[str, Tensor], expected: dict[str, Tensor], free: str | None = None) -> str:
    """Returns why a state dict cannot be loaded, in a few words, or "". free: prefix of the tensors whose shape may
    differ."""
    missing = [key for key in expected if key not in state and not key.endswith("num_batches_tracked")]
    extra = [key for key in state if key not in expected]
    if missing or extra:
        parts = [("lacks", missing), ("has unknown", extra)]
        return "; ".join(f"it {verb} {first_of(keys)}" for verb, keys in parts if keys)
    for key, value in expected.items():
        if key in state and state[key].shape != value.shape and not (free and key.startswith(free)):
            of_classifier = re.sub(r"^(network\.)+", "", key).startswith(CLASSIFIERS)
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
            kind = (
                "quantised" if value.is_quantized else "sparse" if value.layout != torch.strided else "without values"
            )
            return f"{key} is {kind}, not a plain tensor"
        whole = not target.is_floating_point()
        if value.dtype not in FLOATS and not (whole and value.dtype in (torch.int64, torch.int32)):
            return f"{key} holds {str(value.dtype).removeprefix('torch.')}, not floating-point numbers"
        kept = value.to(target.dtype)
        if not torch.isfinite(kept).all():
            return f"{key} has values that are not finite"
        if key.endswith("running_var") and kept.numel() and kept.min() < 0:
            return f"{key} has negative variances"
    return ""


BIASES = ("fc.bias", "linear.bias", "classifier.bias", "classifier.0.bias")  # classifiers of this suite's networks
MOST_CLASSES = 1_000_000  # a damaged file may claim any number


def _fits(asked: str, state: dict[str, Tensor]) -> str:
    """Returns a hint that names another registered network that the weights fit, or ""."""
    for key, value in state.items():
        ends = [end for end in BIASES if f".{key}".endswith(f".{end}")]
        if not ends or value.dim() != 1 or not 0 < len(value) < MOST_CLASSES:
            continue
        prefix = key.removesuffix(ends[0])
        inside = {other[len(prefix) :]: tensor for other, tensor in state.items() if other.startswith(prefix)}
        named = {RENAMED.get(name, name): tensor for name, tensor in inside.items()}
        for name in NETWORKS:
            if name != asked and not _mismatch(named, _empty_state(NETWORKS[name], len(value))):
                return f". It fits {name} with {len(value)} classes"
    return ""


@lru_cache(maxsize=256)
def _empty_state(network: Callable[[int], nn.Module], classes: int) -> dict[str, Tensor]:
    """Returns a network's state dict on torch's meta device."""
    with torch.device("meta"):
        return dict(network(classes).state_dict())
