"""Networks from files: the published checkpoints in their several formats, and this project's own weights."""

import hashlib
import os
import pickle
from collections.abc import Callable
from functools import lru_cache
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

from sskd.config.networks import NetworkSettings
from sskd.config.pretrained import PUBLISHED, Pretrained
from sskd.errors import UserError
from sskd.networks import NETWORKS, Network, build_network
from sskd.networks.build import PLAIN
from sskd.networks.library import fetch_weights, find_weights

RENAMED = {
    "classifier.0.weight": "classifier.weight",
    "classifier.0.bias": "classifier.bias",
}  # CRD's MobileNetV2
PREFIXES = ("module.", "backbone.")  # DataParallel's; SSKD's wrapper around a student


def load_network(path: str | Path, name: str, num_classes: int, settings: NetworkSettings = PLAIN) -> Network:
    """The network ``name`` with the weights of ``path``: SSKD's or CRD's format, an old pickle, safetensors; or with
    published weights, where ``path`` is "torchvision:" or "timm:" and their name.

    Executes no code from the file. UserError if it is missing, damaged, of another network or other classes.
    """
    network = build_network(name, num_classes, settings)
    load_into(network, path, name, num_classes)
    return network


def load_into(network: Network, path: str | Path, name: str, num_classes: int) -> None:
    """Gives ``network``, which errors call ``name``, the weights of ``path``, as ``load_network``."""
    wanted = network.state_dict()
    found = fetch_weights(name, str(path)) if str(path).startswith(PUBLISHED) else _state(path)
    state = {network.own_name(key): value for key, value in found.items()}
    if state.keys() != wanted.keys():  # else the file has the network's own names, whatever they look like
        found = _published_names(found)
        state = {network.own_name(key): value for key, value in found.items()}
    problem = _mismatch(state, wanted) or _unusable(state, wanted)
    if problem:
        raise UserError(
            f"{path} does not hold the weights of {name} with {num_classes} classes: {problem}{_fits(name, found)}"
        )
    network.load_state_dict({key: state[key] for key in wanted if key in state}, strict=False)


def check_weights(teacher: Pretrained) -> None:
    """UserError if the weights are no file, or not the one that is meant, without loading them."""
    if teacher.published:
        find_weights(teacher.network, teacher.weights)
        return
    path = _existing(teacher.weights)
    if teacher.sha256 is not None and (found := file_sha256(path)) != teacher.sha256:
        raise UserError(f"{path} is not the file that the spec means: its sha256 is {found}, not {teacher.sha256}")


def check_classes(teacher: Pretrained, num_classes: int) -> None:
    """UserError if the weights are not of that network with so many classes. Published ones are not downloaded."""
    if not teacher.published:
        load_network(teacher.weights, teacher.network, num_classes, teacher.network_settings)
        return
    known = find_weights(teacher.network, teacher.weights).num_classes
    if known != num_classes:
        raise UserError(f"{teacher.weights} has {known} classes, and the data {num_classes}")


def file_sha256(path: Path) -> str:
    """Of the file's content, in hex. UserError if it cannot be read."""
    digest = hashlib.sha256()
    try:
        with path.open("rb") as file:
            while part := file.read(2**20):
                digest.update(part)
    except OSError as error:
        raise UserError(f"cannot read {path}: {error.strerror}") from None
    return digest.hexdigest()


def load_state(path: str | Path) -> dict[str, Tensor]:
    """The tensors of a weights file under their published names. UserError names what is wrong with the file."""
    return _published_names(_state(path))


def _state(path: str | Path) -> dict[str, Tensor]:
    """The same under the names that the file has."""
    path = _existing(path)
    try:
        data: Any = load_file(path) if path.suffix == ".safetensors" else _load_pickle(path)
    except SafetensorError as error:
        raise UserError(f"{path} is damaged or no safetensors file: {error}") from None
    except pickle.UnpicklingError as error:
        raise UserError(f"{path} holds more than tensors, or is damaged; it was not loaded: {_reason(error)}") from None
    except Exception as error:  # a damaged pickle may raise anything
        raise UserError(f"{path} is damaged or cut off: {_reason(error)}") from None
    for key in ("state_dict", "model"):
        if isinstance(data, dict) and isinstance(data.get(key), dict):
            data = data[key]
    if (
        not isinstance(data, dict)
        or not data
        or not all(isinstance(key, str) and isinstance(value, Tensor) for key, value in data.items())
    ):
        raise UserError(f"{path} holds no state dict: expected tensors by name, or a dict with 'state_dict' or 'model'")
    return data


def _reason(error: Exception) -> str:
    return str(error).splitlines()[0][:200] if str(error) else type(error).__name__


def _existing(path: str | Path) -> Path:
    if not os.path.isfile(path):  # unlike Path's, False for what cannot be looked at
        raise UserError(f"no weights file {path}")
    return Path(path)


def _load_pickle(path: Path) -> Any:
    return torch.load(path, map_location="cpu", weights_only=True)


def _published_names(state: dict[str, Tensor]) -> dict[str, Tensor]:
    for prefix in PREFIXES:
        if any(key.startswith(prefix) for key in state):  # what lacks the prefix is a head's beside the network
            state = {key.removeprefix(prefix): value for key, value in state.items() if key.startswith(prefix)}
    return {RENAMED.get(key, key): value for key, value in state.items()}


CLASSIFIERS = ("fc.", "linear.", "classifier.", "head.", "heads.")  # how the tensors of one are named


def _mismatch(state: dict[str, Tensor], wanted: dict[str, Tensor]) -> str:
    """What keeps a state dict from being loaded, in a few words; "" if nothing does."""
    missing = [key for key in wanted if key not in state and not key.endswith("num_batches_tracked")]
    extra = [key for key in state if key not in wanted]
    if missing or extra:
        parts = [("lacks", missing), ("has unknown", extra)]
        return "; ".join(f"it {verb} {', '.join(keys[:3])}{_more(keys)}" for verb, keys in parts if keys)
    for key, value in wanted.items():
        if key in state and state[key].shape != value.shape:
            of_classifier = key.removeprefix("network.").startswith(CLASSIFIERS)
            if of_classifier and state[key].dim() and state[key].shape[1:] == value.shape[1:]:
                return f"its classifier has {len(state[key])} classes"
            return f"{key} has shape {tuple(state[key].shape)}, not {tuple(value.shape)}"
    return ""


FLOATS = (torch.float16, torch.bfloat16, torch.float32, torch.float64)


def _unusable(state: dict[str, Tensor], wanted: dict[str, Tensor]) -> str:
    """What makes tensors of the right names and shapes no weights, in a few words; "" if nothing does. Only now are
    their values looked at: a shape that a file claims may be larger than any memory."""
    for key, target in wanted.items():
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


def _more(keys: list[str]) -> str:
    return f" and {len(keys) - 3} more" if len(keys) > 3 else ""


MOST_CLASSES = 1_000_000  # that weights are taken to be of: a damaged file may claim any number


def _fits(asked: str, state: dict[str, Tensor]) -> str:
    """A hint: another registered network that these weights do belong to."""
    biases = [value for key, value in state.items() if key in ("fc.bias", "linear.bias", "classifier.bias")]
    classes = [len(value) for value in biases if value.dim() == 1 and 0 < len(value) < MOST_CLASSES]
    if not classes:
        return ""
    for name in NETWORKS:
        wanted = _empty_state(NETWORKS[name], classes[0])
        if name != asked and not _mismatch(state, wanted):
            return f". It fits {name} with {classes[0]} classes"
    return ""


@lru_cache(maxsize=256)
def _empty_state(network: Callable[[int], nn.Module], classes: int) -> dict[str, Tensor]:
    """Names and shapes of a network's tensors, on torch's meta device."""
    with torch.device("meta"):
        return dict(network(classes).state_dict())
