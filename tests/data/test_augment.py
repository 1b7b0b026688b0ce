"""Crops, flips, rotations and squares: pixels against torchvision, statistics, the published order; augmentations by
name, in every kind of view. (Of image files: test_imagenet.)"""

import pytest
import torch
from torch import Tensor
from torchvision.transforms.v2 import functional as tv

from sskd.config.recipe import Recipe
from sskd.data.augment import Augmentation, crop_at, random_crop, random_flip
from sskd.data.augmentations import AUGMENTATIONS, cut_out
from sskd.data.strong import GREY, strong_augment
from sskd.data.transformations import TRANSFORMATIONS
from sskd.data.views import Rotations, SingleView, ViewTransform, rotations
from sskd.pretext.jigsaw import Puzzles


def pixels(count: int, size: int = 8) -> Tensor:
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


def test_crop_offsets_are_uniform_and_each_samples_own() -> None:
    """An image whose pixels tell their place shows the offset that was drawn."""
    size, count = 9, 8100
    rows, columns = torch.arange(size).view(1, 1, size, 1), torch.arange(size).view(1, 1, 1, size)
    place = (rows * 16 + columns).to(torch.uint8).expand(count, 3, -1, -1)
    centre = random_crop(place, 4, generator())[:, 0, 4, 4].long()  # never padding: offsets move it by at most 4
    together = torch.bincount(9 * (centre // 16) + centre % 16, minlength=81)
    assert (together - count / 81).abs().max() < 5 * (count / 81) ** 0.5


def test_flip_rate_and_pixels() -> None:
    images = pixels(4000)
    flipped = random_flip(images, generator())
    mirrored = (flipped == tv.horizontal_flip(images)).flatten(1).all(1)
    untouched = (flipped == images).flatten(1).all(1)
    assert (mirrored ^ untouched).all()
    assert 1850 < int(mirrored.sum()) < 2150  # 2000 +- 4.7 standard deviations


def test_plain_crops_then_flips_then_cuts() -> None:
    made = AUGMENTATIONS["cutout"](Recipe(augmentation="cutout", cutout_size=4))
    images, draws = pixels(6), generator(3)
    views, labels = SingleView()(images, made, generator(3))
    assert labels is None
    assert torch.equal(views, cut_out(random_flip(random_crop(images, 4, draws), draws), draws, 4))


@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last], ids=["planes", "channels last"])
def test_rotations_flip_turn_then_crop_each_view(layout: torch.memory_format) -> None:
    images = pixels(5).to(memory_format=layout)
    views, labels = Rotations()(images, Augmentation(2, True), generator(3))
    draws = generator(3)
    flipped = random_flip(images, draws)
    turned = [tv.rotate(flipped[b], 90 * k) for b in range(5) for k in range(4)]  # torchvision turns counter-clockwise
    assert torch.equal(views, random_crop(torch.stack(turned), 2, draws))
    assert labels is not None
    assert labels.tolist() == [0, 1, 2, 3] * 5
    assert rotations(images).is_contiguous(memory_format=torch.channels_last)


def test_cutout_squares() -> None:
    """Grey where the square is and untouched elsewhere; its middle is uniform over all pixels, each image's own."""
    cut = cut_out(torch.zeros(6400, 3, 8, 8, dtype=torch.uint8), generator(), 3)
    covered = (cut == torch.tensor(GREY, dtype=torch.uint8).view(3, 1, 1)).all(1)
    assert (cut[~covered[:, None].expand_as(cut)] == 0).all()
    middles = []
    for side in (covered.any(2), covered.any(1)):
        length = side.sum(1)
        assert set(length.tolist()) == {2, 3}  # 2 where the middle is in the first or last line
        middles.append(torch.where(length == 3, side.int().argmax(1) + 1, 7 * side[:, 7]))
    assert torch.equal(covered, covered.any(2)[:, :, None] & covered.any(1)[:, None, :])
    places = torch.bincount(8 * middles[0] + middles[1], minlength=64)
    assert (places - 100).abs().max() < 50  # 100 +- 5 standard deviations


def test_the_other_augmentations_by_name() -> None:
    images = pixels(6)
    assert torch.equal(SingleView()(images, AUGMENTATIONS["none"](Recipe(augmentation="none")), generator())[0], images)
    assert AUGMENTATIONS["standard"](Recipe(crop_padding=2, flip=False)) == Augmentation(2, False)
    assert AUGMENTATIONS["strong"](Recipe(augmentation="strong")).transform is strong_augment


@pytest.mark.parametrize(
    "views", [SingleView(), Rotations(), Puzzles(), TRANSFORMATIONS["paper"]], ids=lambda views: type(views).__name__
)
def test_every_view_is_changed_once(views: ViewTransform) -> None:
    """One call transforms all views, so each has its own draws."""
    seen: list[torch.Size] = []

    def mark(images: Tensor, generator: torch.Generator) -> Tensor:
        seen.append(images.shape)
        return images.clone().fill_(7)

    made, _ = views(pixels(5), Augmentation(1, True, mark), generator())
    assert (made == 7).all()
    assert seen == [made.shape]
