"""Networks from files: state dicts as training scripts save them, published weights, and this project's own."""

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
    """The network ``name`` with the weights of ``path``: a state dict wherever it stands in a torch.save or safetensors
    file, under any prefix; or published weights, where ``path`` is "torchvision:" or "timm:" and their name.

    which: "raw", "averaged", or the name under which the weights stand, where the file holds several that fit. log:
    gets one line where it does. images: as build_network's. Executes no code from the file. UserError if it is missing,
    damaged, of another network or other classes.
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
    """Gives ``network``, which errors call ``name``, the weights of ``path``, as ``load_network``. Returns what is to
    be said of the choice; "" where there was none. new_classifier: where the file's classifier has another shape, the
    network keeps its own."""
    wanted, free = network.state_dict(), f"{network.tail[-1]}." if new_classifier else None
    tensors = _tensors(name, path)
    found = find_states(tensors, network)
    fits = [state for state in found if not _mismatch(state.tensors, wanted, free)]
    if not fits:
        state = found[0] if found else nearest_state(tensors, network)
        problem = _mismatch(state.tensors, wanted, free)
        hint = _fits(name, tensors)
        raise UserError(f"{path} does not hold the weights of {name} with {num_classes} classes: {problem}{hint}")
    chosen, note = choose(fits, which, f"{path}", name)
    taken = {key: value for key, value in chosen.tensors.items() if value.shape == wanted[key].shape}
    problem = _unusable(taken, wanted)
    if problem:
        raise UserError(f"{path} does not hold the weights of {name} with {num_classes} classes: {problem}")
    network.load_state_dict(taken, strict=False)
    return note


def _tensors(name: str, path: str | Path) -> dict[str, Tensor]:
    return fetch_weights(name, str(path)) if str(path).startswith(PUBLISHED) else read_tensors(existing(path))


def check_weights(teacher: FromFile) -> None:
    """UserError if the weights are no file, or not the one that is meant, without loading them."""
    if teacher.published:
        find_weights(teacher.network, teacher.weights)
        return
    path = existing(teacher.weights)
    if teacher.sha256 is not None and (found := file_sha256(path)) != teacher.sha256:
        raise UserError(f"{path} is not the file that the spec means: its sha256 is {found}, not {teacher.sha256}")


def check_start(start: FromFile, num_classes: int, log: Callable[[str], None] = lambda _: None) -> None:
    """UserError if a network of so many classes cannot start from the weights. Published ones are not downloaded."""
    check_weights(start)
    if not start.published:
        start_from(build_network(start.network, num_classes), start, num_classes, log)


def start_from(
    network: Network, start: FromFile, num_classes: int, log: Callable[[str], None] = lambda _: None
) -> None:
    """Gives a new network the weights that its training starts from. Its classifier stays as it is where the weights'
    is of other classes. UserError if they are not of that network."""
    note = load_into(network, start.weights, start.network, num_classes, start.which, new_classifier=True)
    if note:
        log(note)


def check_classes(teacher: FromFile, num_classes: int, log: Callable[[str], None] = lambda _: None) -> None:
    """UserError if the weights are not of that network with so many classes. Published ones are not downloaded. log: as
    ``load_network``."""
    if not teacher.published:
        load_network(
            teacher.weights, teacher.network, num_classes, teacher.network_settings, which=teacher.which, log=log
        )
        return
    known = find_weights(teacher.network, teacher.weights).num_classes
    if known != num_classes:
        raise UserError(
            f"{teacher.weights} has {known} classes, and the data {num_classes}: as a teacher's 'start', in place of "
            "its 'weights', it is trained on these"
        )


def file_sha256(path: Path) -> str:
    """Returns the sha256 of the file's content, in hex. UserError if it cannot be read."""
    try:
        with path.open("rb") as file:
            return sha256_of(file)
    except OSError as error:
        raise UserError(f"cannot read {path}: {error.strerror}") from None


def sha256_of(file: BinaryIO) -> str:
    """Returns the sha256, in hex, of what is left to be read of the file."""
    digest = hashlib.sha256()
    while part := file.read(2**20):
        digest.update(part)
    return digest.hexdigest()


def existing(path: str | Path) -> Path:
    """The path. UserError where no file is there."""
    if os.path.isdir(path):
        raise UserError(f"no weights file {path}: it is a folder; name a file in it")
    if not os.path.isfile(path):  # unlike Path's, False for what cannot be looked at
        raise UserError(f"no weights file {path}")
    return Path(path)


CLASSIFIERS = ("fc.", "linear.", "classifier.", "head.", "heads.")  # how the tensors of one are named


def _mismatch(state: dict[str, Tensor], wanted: dict[str, Tensor], free: str | None = None) -> str:
    """What keeps a state dict from being loaded, in a few words; "" if nothing does. free: how the names of tensors
    begin that may have another shape."""
    missing = [key for key in wanted if key not in state and not key.endswith("num_batches_tracked")]
    extra = [key for key in state if key not in wanted]
    if missing or extra:
        parts = [("lacks", missing), ("has unknown", extra)]
        return "; ".join(f"it {verb} {first_of(keys)}" for verb, keys in parts if keys)
    for key, value in wanted.items():
        if key in state and state[key].shape != value.shape and not (free and key.startswith(free)):
            of_classifier = re.sub(r"^(network\.)+", "", key).startswith(CLASSIFIERS)
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


BIASES = ("fc.bias", "linear.bias", "classifier.bias", "classifier.0.bias")  # of classifiers of this suite's networks
MOST_CLASSES = 1_000_000  # that weights are taken to be of: a damaged file may claim any number


def _fits(asked: str, state: dict[str, Tensor]) -> str:
    """A hint: another registered network that these weights do belong to."""
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
    """Names and shapes of a network's tensors, on torch's meta device."""
    with torch.device("meta"):
        return dict(network(classes).state_dict())
