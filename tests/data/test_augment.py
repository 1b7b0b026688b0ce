"""Crops, flips and rotations: pixels against torchvision, statistics, and the published order."""

import pytest
import torch
from torch import Tensor
from torchvision.transforms.v2 import functional as tv

from sskd.data.augment import Augmentation, crop_at, random_crop, random_flip
from sskd.data.views import Rotations, SingleView, rotations


def pixels(count: int, size: int = 8) -> torch.Tensor:
    return torch.randint(1, 256, (count, 3, size, size), generator=torch.Generator().manual_seed(1), dtype=torch.uint8)


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def test_crop_pixels_and_black_padding() -> None:
    images = pixels(25)
    top, left = torch.arange(25) // 5, torch.arange(25) % 5
    cut = crop_at(images, 2, top, left)
    for b in range(25):
        expected = tv.crop(tv.pad(images[b], [2, 2, 2, 2], fill=0), int(top[b]), int(left[b]), 8, 8)
        assert torch.equal(cut[b], expected)
    assert (cut[0, :, :2] == 0).all()


def test_crop_offsets_are_uniform_and_each_samples_own() -> None:
    """An image whose pixels tell their place shows the offset that was drawn."""
    size, count = 9, 8100
    rows, columns = torch.arange(size).view(1, 1, size, 1), torch.arange(size).view(1, 1, 1, size)
    place = (rows * 16 + columns).to(torch.uint8).expand(count, 3, -1, -1)
    cut = random_crop(place, 4, generator())
    centre = cut[:, 0, 4, 4].long()  # never padding: offsets move it by at most 4
    offsets = torch.stack([centre // 16, centre % 16])
    for axis in offsets:
        assert (torch.bincount(axis, minlength=9) - count / 9).abs().max() < 5 * (count / 9) ** 0.5
    together = torch.bincount(offsets[0] * 9 + offsets[1])
    assert (together > 0).sum() == 81  # rows and columns independent: every pair occurs


def test_flip_rate_and_pixels() -> None:
    images = pixels(4000)
    flipped = random_flip(images, generator())
    mirrored = (flipped == tv.horizontal_flip(images)).flatten(1).all(1)
    untouched = (flipped == images).flatten(1).all(1)
    assert (mirrored ^ untouched).all()
    assert 1850 < int(mirrored.sum()) < 2150  # 2000 +- 4.7 standard deviations


def test_plain_crops_then_flips() -> None:
    images = pixels(6)
    views, labels = SingleView()(images, Augmentation(2, True), generator(3))
    draws = generator(3)
    assert labels is None
    assert torch.equal(views, random_flip(random_crop(images, 2, draws), draws))


def test_rotations_flip_turn_then_crop_each_view() -> None:
    images = pixels(5)
    views, labels = Rotations()(images, Augmentation(2, True), generator(3))
    draws = generator(3)
    flipped = random_flip(images, draws)
    turned = [tv.rotate(flipped[b], 90 * k) for b in range(5) for k in range(4)]  # torchvision turns counter-clockwise
    assert torch.equal(views, random_crop(torch.stack(turned), 2, draws))
    assert labels is not None
    assert labels.tolist() == [0, 1, 2, 3] * 5


@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last], ids=["planes", "channels last"])
def test_rotations_come_image_by_image_in_channels_last(layout: torch.memory_format) -> None:
    images = pixels(3, 7).to(memory_format=layout)
    turned = rotations(images)
    assert torch.equal(turned, torch.stack([tv_turned(images, turn) for turn in range(4)], dim=1).flatten(0, 1))
    assert turned.is_contiguous(memory_format=torch.channels_last)


def tv_turned(images: Tensor, turn: int) -> Tensor:
    return tv.rotate(images, 90.0 * turn)
