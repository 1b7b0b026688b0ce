"""Which training images, with which labels: few-shot subsets and label noise, from a split seed alone.

Draws come from NumPy's legacy RandomState: its stream is frozen, so a split is the same in every NumPy version, on
every platform, for every method, and whatever ran before.
"""

import math
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from sskd.config.recipe import SplitSpec
from sskd.errors import UserError
from sskd.seeding import stream_seed


class Part(NamedTuple):
    """indices: (n,) int64, ascending, into the whole training set. labels: (n,) int64, noise included."""

    indices: Tensor
    labels: Tensor


class Split(NamedTuple):
    """What is trained on, as in Part, and what is held out of it to choose an epoch (None: nothing is)."""

    indices: Tensor
    labels: Tensor
    held_out: Part | None = None


def make_split(labels: Tensor, num_classes: int, spec: SplitSpec) -> Split:
    """The split of a training set with ``labels`` (N,).

    Few-shot: of a class with c images, max(1, round(fraction * c)), halves rounded up; smaller fractions are subsets
    of larger ones. Noise: exactly round(noise * n) of the n labels change, each to a class drawn uniformly from the
    others; for one fraction, labels changed at a lower rate are changed at a higher one, to the same class.
    Held out: of a class with c images left, round(holdout * c), but never all. Held-out images keep their noise: who
    has wrong labels to train on has no right ones to choose an epoch by. Holding images out does not change the
    labels of the others. UserError for labels outside 0..num_classes - 1, for noise with one class, and for a holdout
    of nothing.
    """
    clean = labels.numpy()
    if clean.size == 0 or clean.min() < 0 or clean.max() >= num_classes:
        raise UserError(f"training labels must lie in 0..{num_classes - 1}; found {_range(clean)}")
    indices = _subset(clean, spec)
    chosen = clean[indices].astype(np.int64)
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
    parts = [Part(torch.from_numpy(indices[rows]), torch.from_numpy(chosen[rows])) for rows in (~held, held)]
    return Split(*parts[0], held_out=parts[1])


def _subset(labels: np.ndarray, spec: SplitSpec) -> np.ndarray:
    if spec.fraction == 1:
        return np.arange(len(labels))
    kept = []
    for label in np.unique(labels):
        members = np.flatnonzero(labels == label)
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
