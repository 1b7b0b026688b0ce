"""Few-shot subsets and label noise: counts, nesting, and independence of everything but the split seed."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from sskd.config.recipe import SplitSpec
from sskd.data.splits import Split, make_split
from sskd.errors import UserError

SEEDS = st.integers(0, 2**40)
PERCENT = st.integers(1, 100)


@st.composite
def label_sets(draw: st.DrawFn) -> tuple[torch.Tensor, int]:
    classes = draw(st.integers(2, 6))
    counts = [draw(st.integers(1, 30)) for _ in range(classes)]
    labels = torch.repeat_interleave(torch.arange(classes), torch.tensor(counts))
    order = torch.randperm(len(labels), generator=torch.Generator().manual_seed(draw(st.integers(0, 99))))
    return labels[order], classes


def split(labels: torch.Tensor, classes: int, fraction: int = 100, noise: int = 0, seed: int = 0) -> Split:
    return make_split(labels, classes, SplitSpec(fraction=fraction / 100, noise=noise / 100, seed=seed))


@given(label_sets(), SEEDS, PERCENT, PERCENT)
def test_few_shot_counts_and_nesting(data: tuple[torch.Tensor, int], seed: int, first: int, second: int) -> None:
    labels, classes = data
    low, high = sorted((first, second))
    small, large = (split(labels, classes, fraction=f, seed=seed) for f in (low, high))
    assert set(small.indices.tolist()) <= set(large.indices.tolist())
    for label in range(classes):
        count = int((labels == label).sum())
        exact = (low * count + 50) // 100  # round half up, in whole numbers
        assert int((labels[small.indices] == label).sum()) == max(1, exact)
    assert (small.indices.diff() > 0).all()
    assert torch.equal(small.labels, labels[small.indices])


@given(label_sets(), SEEDS, PERCENT, st.integers(0, 100), st.integers(0, 100))
def test_noise_counts_and_nesting(
    data: tuple[torch.Tensor, int], seed: int, fraction: int, first: int, second: int
) -> None:
    labels, classes = data
    low, high = sorted((first, second))
    little, much = (split(labels, classes, fraction, noise, seed) for noise in (low, high))
    clean = labels[little.indices]
    changed_little, changed_much = little.labels != clean, much.labels != clean
    n = len(clean)
    assert int(changed_little.sum()) == (low * n + 50) // 100
    assert int(changed_much.sum()) == (high * n + 50) // 100
    assert torch.equal(much.labels[changed_little], little.labels[changed_little])
    assert int(much.labels.min()) >= 0
    assert int(much.labels.max()) < classes


@settings(max_examples=20)
@given(SEEDS)
def test_depends_on_the_split_seed_alone(seed: int) -> None:
    labels = torch.arange(200) % 10
    before = split(labels, 10, 40, 30, seed)
    torch.manual_seed(seed % 1000)
    torch.rand(10)
    split(labels, 10, 70, 10, seed + 1)
    after = split(labels, 10, 40, 30, seed)
    assert torch.equal(before.indices, after.indices)
    assert torch.equal(before.labels, after.labels)
    other = split(labels, 10, 40, 30, seed + 1)
    assert not torch.equal(before.indices, other.indices)


def test_pinned() -> None:
    """The same on every platform and in every version: these values must never change."""
    result = split(torch.arange(20) % 4, 4, 40, 50, 7)
    assert result.indices.tolist() == PINNED[0]
    assert result.labels.tolist() == PINNED[1]


def test_noise_goes_to_every_other_class_alike() -> None:
    labels = torch.zeros(9000, dtype=torch.int64)
    noisy = split(labels, 4, 100, 100).labels
    counts = torch.bincount(noisy, minlength=4)
    assert counts[0] == 0
    assert (counts[1:] - 3000).abs().max() < 200  # 4.5 standard deviations


def test_labels_out_of_range() -> None:
    with pytest.raises(UserError, match=r"must lie in 0\.\.3; found 0\.\.4"):
        split(torch.tensor([0, 4]), 4)


PINNED = ([3, 4, 8, 9, 11, 14, 17, 18], [0, 3, 1, 1, 3, 1, 1, 2])


@given(label_sets(), SEEDS, PERCENT, st.integers(1, 90), st.integers(0, 100))
def test_held_out_images_are_counted_by_class_and_not_trained_on(
    data: tuple[torch.Tensor, int], seed: int, fraction: int, share: int, noise: int
) -> None:
    labels, classes = data
    spec = SplitSpec(fraction=fraction / 100, noise=noise / 100, seed=seed)
    whole = make_split(labels, classes, spec)
    counts = [int((labels[whole.indices] == label).sum()) for label in range(classes)]
    expected = [min(count - 1, (share * count + 50) // 100) for count in counts]
    holding = spec.model_copy(update={"holdout": share / 100})
    if not any(expected):
        with pytest.raises(UserError, match="split.holdout"):
            make_split(labels, classes, holding)
        return
    held = make_split(labels, classes, holding)
    assert held.validation is not None
    assert whole.validation is None
    assert [int((labels[held.validation.indices] == label).sum()) for label in range(classes)] == expected
    together = dict(zip(held.indices.tolist(), held.labels.tolist(), strict=True))
    together |= dict(zip(held.validation.indices.tolist(), held.validation.labels.tolist(), strict=True))
    assert together == dict(zip(whole.indices.tolist(), whole.labels.tolist(), strict=True))  # noise where it was
    assert len(together) == len(held.indices) + len(held.validation.indices)
    assert (held.indices.diff() > 0).all()
    assert (held.validation.indices.diff() > 0).all()
