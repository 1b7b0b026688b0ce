"""Splits: the training images and labels of a run (few-shot subsets, label noise), from a split seed or from files.

NumPy's legacy RandomState makes the draws: its stream never changes, so a split is the same for every NumPy version,
platform and method.
"""

import math
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from sskd.config.recipe import NumberFile, SplitSpec
from sskd.data.number_files import named_numbers, read_hashed, read_numbers
from sskd.errors import UserError
from sskd.runtime.seeding import stream_seed


class Subset(NamedTuple):
    """Some training images and their labels. indices: (n,) int64, ascending, into the whole training set. labels: (n,)
    int64, after label noise."""

    indices: Tensor
    labels: Tensor


class Split(NamedTuple):
    """The images that the model is trained on (as in Subset), and the validation set; None: there is none."""

    indices: Tensor
    labels: Tensor
    validation: Subset | None = None


def make_split(labels: Tensor, num_classes: int, spec: SplitSpec) -> Split:
    """Makes the split of a training set with ``labels`` (N,).

    With ``spec.indices``, the training set is restricted to those images; with ``spec.labels``, the labels come from
    the file. Classes are always those of the data set, not of the file.

    - Few-shot: a class with c images keeps max(1, round(fraction * c)), halves rounded up. Smaller fractions are
    subsets of larger ones.
    - Label noise: exactly round(noise * n) of the n labels change, each to a class drawn uniformly from the others. For
    the same fraction, labels that are wrong at a lower noise rate have the same wrong class at a higher one.
    - Validation set: round(holdout * c) of the c remaining images of a class, but never all. They keep their noisy
    labels, because in practice a noisy data set has no clean validation set. The labels of the other images do not
    change.

    Raises UserError for labels outside 0..num_classes - 1, noise with one class or with ``spec.labels``, an empty
    validation set, or a file that does not fit the data set.
    """
    clean = labels.numpy()
    if clean.size == 0 or clean.min() < 0 or clean.max() >= num_classes:
        raise UserError(f"training labels must lie in 0..{num_classes - 1}; found {_range(clean)}")
    given = given_labels(spec, len(clean), num_classes, clean)
    indices = _subset(clean, given_indices(spec, len(clean)), spec)
    chosen = (clean if given is None else given)[indices].astype(np.int64)
    changed = _round(spec.noise * len(chosen))
    if changed and num_classes < 2:
        raise UserError("label noise needs at least two classes")
    rng = _rng(spec.seed, "noise")
    order, shift = rng.permutation(len(chosen)), rng.randint(1, max(num_classes, 2), len(chosen))
    flipped = order[:changed]  # the order does not depend on the noise rate, so lower rates change a subset
    chosen[flipped] = (chosen[flipped] + shift[flipped]) % num_classes
    if spec.holdout == 0:
        return Split(torch.from_numpy(indices), torch.from_numpy(chosen))
    held = _held_out(clean[indices], spec)
    if not held.any():
        raise UserError(
            f"split.holdout {spec.holdout:g} leaves the validation set empty: increase it, or use more images"
        )
    parts = [Subset(torch.from_numpy(indices[rows]), torch.from_numpy(chosen[rows])) for rows in (~held, held)]
    return Split(*parts[0], validation=parts[1])


def given_labels(spec: SplitSpec, images: int, num_classes: int, clean: np.ndarray | None = None) -> np.ndarray | None:
    """Returns the labels of ``spec.labels`` for all training images, (images,) int64, or None.

    ``clean``: the labels of the data set. A file that also has clean labels (CIFAR-N's) must agree with them. Raises
    UserError if the file does not fit.
    """
    if spec.labels is None:
        return None
    if spec.noise:
        raise UserError("split.noise and split.labels both change the labels: remove one of them")
    labels = _numbers(spec.labels, "labels", LABELS)
    file = spec.labels.file
    if len(labels) != images or labels.dtype == bool:
        what = "truth values" if labels.dtype == bool else "labels"
        raise UserError(f"split.labels: {file} has {len(labels):,} {what}, but the training set has {images:,} images")
    _refuse_out_of_range(labels, num_classes, spec.labels, "labels")
    for name in CLEAN:
        right = named_numbers(Path(file), _content(spec.labels, "labels"), name)
        if clean is not None and right is not None and not np.array_equal(right, clean):
            raise UserError(
                f"split.labels: '{name}' of {file} differs from the labels of the data set: the order is different"
            )
    return labels


def given_indices(spec: SplitSpec, images: int) -> np.ndarray:
    """Returns the training images that ``spec.indices`` lists, (n,) int64, ascending, or all. Raises UserError if
    the file does not fit."""
    if spec.indices is None:
        return np.arange(images)
    indices, file = _numbers(spec.indices, "indices", INDICES), spec.indices.file
    if indices.dtype == bool:
        if len(indices) != images or not indices.any():
            raise UserError(f"split.indices: {file} is not a mask that selects some of {images:,} training images")
        return np.flatnonzero(indices)
    _refuse_out_of_range(indices, images, spec.indices, "indices")
    indices = np.sort(indices)
    twice = np.flatnonzero(np.diff(indices) == 0)
    if len(twice):
        raise UserError(f"split.indices: {file} contains image {indices[twice[0]]} twice")
    return indices


def training_images(spec: SplitSpec, images: int, num_classes: int) -> int:
    """Estimates the number of training images of the split if the labels are not known. Raises UserError if a file
    of the split does not fit."""
    given_labels(spec, images, num_classes)
    return round(len(given_indices(spec, images)) * spec.fraction * (1 - spec.holdout))


# names of the lists in published files
LABELS = ("labels", "label", "noisy_label", "noisy_labels", "noise_label", "noise_labels", "targets")
INDICES = ("indices", "index", "idx", "indexes")
CLEAN = ("clean_label", "clean_labels")


def _numbers(file: NumberFile, setting: str, usual: tuple[str, ...]) -> np.ndarray:
    try:
        return read_numbers(Path(file.file), _content(file, setting), file.key, usual)
    except UserError as error:
        raise UserError(f"split.{setting}: {error}") from None


def _refuse_out_of_range(numbers: np.ndarray, end: int, file: NumberFile, setting: str) -> None:
    """Raises UserError with the first number that is not in 0..end - 1."""
    wrong = np.flatnonzero((numbers < 0) | (numbers >= end))
    if len(wrong):
        counted = " (the first is 0)" if numbers.min() == 1 and numbers.max() == end else ""
        raise UserError(
            f"split.{setting}: {file.file} has {numbers[wrong[0]]} at index {wrong[0]}, which is not in "
            f"0..{end - 1}{counted}"
        )


def _content(file: NumberFile, setting: str) -> bytes:
    return read_hashed(Path(file.file), file.sha256, f"split.{setting}")


def _subset(labels: np.ndarray, allowed: np.ndarray, spec: SplitSpec) -> np.ndarray:
    """Returns the few-shot subset of the ``allowed`` images; both are ascending."""
    if spec.fraction == 1:
        return allowed
    kept = []
    for label in np.unique(labels[allowed]):
        members = allowed[labels[allowed] == label]
        order = _rng(spec.seed, "subset", int(label)).permutation(len(members))
        kept.append(members[order[: max(1, _round(spec.fraction * len(members)))]])
    return np.sort(np.concatenate(kept))


def _held_out(labels: np.ndarray, spec: SplitSpec) -> np.ndarray:
    """Returns a mask (n,) bool of the validation images, chosen per clean label."""
    held = np.zeros(len(labels), dtype=bool)
    for label in np.unique(labels):
        members = np.flatnonzero(labels == label)
        order = _rng(spec.seed, "holdout", int(label)).permutation(len(members))
        held[members[order[: min(len(members) - 1, _round(spec.holdout * len(members)))]]] = True
    return held


def _round(value: float) -> int:
    """Rounds to the nearest integer, halves up. Rounding errors such as 0.07 * 100 = 7.000000000000001 do not
    matter."""
    return math.floor(value + 0.5 + 1e-9)


def _rng(seed: int, *names: str | int) -> np.random.RandomState:
    return np.random.RandomState(stream_seed(seed, "split", *names) % 2**32)


def _range(labels: np.ndarray) -> str:
    return f"{labels.min()}..{labels.max()}" if labels.size else "none"
