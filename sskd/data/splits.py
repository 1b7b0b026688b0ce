"""Which training images, with which labels: few-shot subsets and label noise, from a split seed alone, or from files.

Draws come from NumPy's legacy RandomState: its stream is frozen, so a split is the same in every NumPy version, on
every platform, for every method, and whatever ran before.
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
    """indices: (n,) int64, ascending, into the whole training set. labels: (n,) int64, noise included."""

    indices: Tensor
    labels: Tensor


class Split(NamedTuple):
    """What is trained on, as in Subset, and what is held out of it to choose an epoch (None: nothing is)."""

    indices: Tensor
    labels: Tensor
    validation: Subset | None = None


def make_split(labels: Tensor, num_classes: int, spec: SplitSpec) -> Split:
    """The split of a training set with ``labels`` (N,).

    With ``spec.indices`` the training set is those images, with ``spec.labels`` its labels are the file's.
    Few-shot: of a class with c images, max(1, round(fraction * c)), halves rounded up; smaller fractions are subsets
    of larger ones. Noise: exactly round(noise * n) of the n labels change, each to a class drawn uniformly from the
    others; for one fraction, labels changed at a lower rate are changed at a higher one, to the same class.
    Held out: of a class with c images left, round(holdout * c), but never all. Held-out images keep their noise: who
    has wrong labels to train on has no right ones to choose an epoch by. Holding images out does not change the
    labels of the others. Shares are of classes as the data set has them, not as a file does. UserError for labels
    outside 0..num_classes - 1, for noise with one class or beside a file's labels, for a holdout of nothing, and for a
    file that does not fit the data set.
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
    flipped = order[:changed]  # the same order for every rate: a lower rate's are among a higher one's
    chosen[flipped] = (chosen[flipped] + shift[flipped]) % num_classes
    if spec.holdout == 0:
        return Split(torch.from_numpy(indices), torch.from_numpy(chosen))
    held = _held_out(clean[indices], spec)
    if not held.any():
        raise UserError(f"split.holdout {spec.holdout:g} holds nothing out: no class has that many images")
    parts = [Subset(torch.from_numpy(indices[rows]), torch.from_numpy(chosen[rows])) for rows in (~held, held)]
    return Split(*parts[0], validation=parts[1])


def given_labels(spec: SplitSpec, images: int, num_classes: int, clean: np.ndarray | None = None) -> np.ndarray | None:
    """The labels that ``spec.labels`` gives to all training images, (images,) int64, or None. ``clean``: the data
    set's own, which a file that holds the right labels too (CIFAR-N's) must agree with. UserError where the file does
    not fit."""
    if spec.labels is None:
        return None
    if spec.noise:
        raise UserError("split.noise changes right labels, and split.labels gives others: leave one of them out")
    labels = _numbers(spec.labels, "labels", LABELS)
    file = spec.labels.file
    if len(labels) != images or labels.dtype == bool:
        what = "truth values" if labels.dtype == bool else "labels"
        raise UserError(f"split.labels: {file} has {len(labels):,} {what}, and the training set {images:,} images")
    _refuse_out_of_range(labels, num_classes, spec.labels, "labels")
    for name in CLEAN:
        right = named_numbers(Path(file), _content(spec.labels, "labels"), name)
        if clean is not None and right is not None and not np.array_equal(right, clean):
            raise UserError(
                f"split.labels: '{name}' of {file} differs from the data set's labels: it has another order"
            )
    return labels


def given_indices(spec: SplitSpec, images: int) -> np.ndarray:
    """The training images that ``spec.indices`` lists, ascending (n,) int64, or all. UserError where the file does not
    fit."""
    if spec.indices is None:
        return np.arange(images)
    indices, file = _numbers(spec.indices, "indices", INDICES), spec.indices.file
    if indices.dtype == bool:
        if len(indices) != images or not indices.any():
            raise UserError(f"split.indices: {file} is no mask of some of {images:,} training images")
        return np.flatnonzero(indices)
    _refuse_out_of_range(indices, images, spec.indices, "indices")
    indices = np.sort(indices)
    twice = np.flatnonzero(np.diff(indices) == 0)
    if len(twice):
        raise UserError(f"split.indices: {file} names image {indices[twice[0]]} twice")
    return indices


def listed_images(spec: SplitSpec, images: int) -> int:
    """Returns how many of so many training images ``spec.indices`` lists, or all. UserError as ``given_indices``."""
    return images if spec.indices is None else len(given_indices(spec, images))


def training_images(spec: SplitSpec, images: int, num_classes: int) -> int:
    """How many of so many training images the split trains on, nearly, where their labels are not known. UserError
    where a file of the split does not fit."""
    given_labels(spec, images, num_classes)
    return round(len(given_indices(spec, images)) * spec.fraction * (1 - spec.holdout))


# what those who publish such files call the lists in them
LABELS = ("labels", "label", "noisy_label", "noisy_labels", "noise_label", "noise_labels", "targets")
INDICES = ("indices", "index", "idx", "indexes")
CLEAN = ("clean_label", "clean_labels")


def _numbers(file: NumberFile, setting: str, usual: tuple[str, ...]) -> np.ndarray:
    try:
        return read_numbers(Path(file.file), _content(file, setting), file.key, usual)
    except UserError as error:
        raise UserError(f"split.{setting}: {error}") from None


def _refuse_out_of_range(numbers: np.ndarray, end: int, file: NumberFile, setting: str) -> None:
    """UserError that names the first of the numbers that is not in 0..end - 1."""
    wrong = np.flatnonzero((numbers < 0) | (numbers >= end))
    if len(wrong):
        counted = " (they must count from 0)" if numbers.min() == 1 and numbers.max() == end else ""
        raise UserError(
            f"split.{setting}: {file.file} has {numbers[wrong[0]]} in place {wrong[0]} (from 0), which is not in "
            f"0..{end - 1}{counted}"
        )


def _content(file: NumberFile, setting: str) -> bytes:
    return read_hashed(Path(file.file), file.sha256, f"split.{setting}")


def _subset(labels: np.ndarray, allowed: np.ndarray, spec: SplitSpec) -> np.ndarray:
    """Of the images ``allowed``, ascending, the share of every class that the spec says, ascending."""
    if spec.fraction == 1:
        return allowed
    kept = []
    for label in np.unique(labels[allowed]):
        members = allowed[labels[allowed] == label]
        order = _rng(spec.seed, "subset", int(label)).permutation(len(members))
        kept.append(members[order[: max(1, _round(spec.fraction * len(members)))]])
    return np.sort(np.concatenate(kept))


def _held_out(labels: np.ndarray, spec: SplitSpec) -> np.ndarray:
    """Which of the images, by their clean labels, are held out: (n,) bool."""
    held = np.zeros(len(labels), dtype=bool)
    for label in np.unique(labels):
        members = np.flatnonzero(labels == label)
        order = _rng(spec.seed, "holdout", int(label)).permutation(len(members))
        held[members[order[: min(len(members) - 1, _round(spec.holdout * len(members)))]]] = True
    return held


def _round(value: float) -> int:
    """To the nearest whole number, halves up; 0.07 * 100 = 7.000000000000001 and its like count as exact."""
    return math.floor(value + 0.5 + 1e-9)


def _rng(seed: int, *names: str | int) -> np.random.RandomState:
    return np.random.RandomState(stream_seed(seed, "split", *names) % 2**32)


def _range(labels: np.ndarray) -> str:
    return f"{labels.min()}..{labels.max()}" if labels.size else "none"
