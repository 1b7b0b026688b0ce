"""The paper's transformations: pixels against torchvision for given parameters, one kind a view, own draws, labels."""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor
from torchvision.transforms.v2 import InterpolationMode
from torchvision.transforms.v2 import functional as tv

from sskd.data.augment import Augmentation
from sskd.data.transformations import (
    TRANSFORMATIONS,
    Boxes,
    Colours,
    boxes,
    colours,
    distort,
    grey,
    resized_crop,
    to_pixels,
    transform,
)

NO_AUGMENTATION = Augmentation(0, False)
LEVELS = 2  # grey levels: torchvision truncates after every operation, ours rounds once


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def pixels(count: int, height: int = 16, width: int = 16) -> Tensor:
    images = torch.randint(0, 256, (count, 3, height, width), generator=generator(1), dtype=torch.uint8)
    images[0, :, :4] = 128  # grey pixels have no hue
    return images


def one(**changes: list[float]) -> Colours:
    """Colours that change nothing but what is given."""
    count = len(next(iter(changes.values())))
    neutral = {"brightness": 1.0, "contrast": 1.0, "saturation": 1.0, "hue": 0.0}
    return Colours(**{name: torch.tensor(changes.get(name, [value] * count)) for name, value in neutral.items()})


def assert_within(found: Tensor, expected: Tensor, levels: int = LEVELS) -> None:
    assert found.dtype == torch.uint8
    assert (found.int() - expected.int()).abs().max() <= levels


ADJUSTED: dict[str, tuple[list[float], Callable[[Tensor, float], Tensor]]] = {
    "brightness": ([0.6, 0.9, 1.4], tv.adjust_brightness),
    "contrast": ([0.6, 0.9, 1.4], tv.adjust_contrast),
    "saturation": ([0.6, 0.9, 1.4], tv.adjust_saturation),
    "hue": ([-0.1, 0.05, 0.4], tv.adjust_hue),
}


def test_colours_as_torchvision() -> None:
    images = pixels(3)
    assert_within(to_pixels(grey(images.float())), tv.rgb_to_grayscale(images))
    for name, (values, reference) in ADJUSTED.items():
        changed = to_pixels(distort(images.float(), one(**{name: values})))
        for b, value in enumerate(values):
            expected = reference(images[b], value)
            assert (expected.int() - images[b].int()).abs().max() > 5
            assert_within(changed[b], expected)


def test_whole_distortion_as_torchvision_in_its_order() -> None:
    images = pixels(1)
    found = distort(images.float(), one(brightness=[1.3], contrast=[0.7], saturation=[1.2], hue=[0.08]))
    expected = tv.adjust_contrast(tv.adjust_brightness(images.float() / 255, 1.3), 0.7)
    expected = tv.adjust_hue(tv.adjust_saturation(expected, 1.2), 0.08)
    assert_within(to_pixels(found), (255 * expected).round(), 1)


@pytest.mark.parametrize("box", [(0, 0, 16, 12), (3, 2, 7, 9), (15, 11, 1, 1), (2, 0, 14, 5)])
def test_crop_with_resize_as_torchvision(box: tuple[int, int, int, int]) -> None:
    """Bilinear, and blind to the pixels outside the crop."""
    images = pixels(1, 16, 12)
    found = to_pixels(resized_crop(images.float(), Boxes(*(torch.tensor([float(value)]) for value in box))))
    expected = tv.resized_crop(images, *box, [16, 12], InterpolationMode.BILINEAR, antialias=False)
    assert_within(found, expected, 1)


def test_drawn_parameters_fill_their_ranges() -> None:
    box = boxes(torch.rand(4, 4000, generator=generator()), 32, 32)
    area, aspect = box.height * box.width / 32**2, box.width / box.height
    assert 0.07 < area.min() < 0.1
    assert area.max() > 0.95
    assert aspect.min() == pytest.approx(3 / 4, abs=0.15)  # sides are whole pixels
    assert aspect.max() == pytest.approx(4 / 3, abs=0.2)
    for start, length in ((box.top, box.height), (box.left, box.width)):
        assert start.min() == 0
        assert (start + length).max() == 32
    drawn = colours(torch.rand(4, 4000, generator=generator()))
    for values, strength, middle in zip(drawn, (0.4, 0.4, 0.4, 0.1), (1, 1, 1, 0), strict=True):
        shift = values - middle
        assert 0.98 * strength < shift.max() <= strength + 1e-6
        assert -0.98 * strength > shift.min() >= -strength - 1e-6


@pytest.mark.parametrize("rows", [3, 6])
def test_every_kind_is_as_likely_for_every_row_of_a_small_batch(rows: int) -> None:
    draws, images = generator(), torch.zeros(rows, 3, 4, 4, dtype=torch.uint8)
    kinds = torch.stack([transform(images, draws)[1] for _ in range(600)])
    for row in range(rows):
        counts = torch.bincount(kinds[:, row], minlength=5)
        assert counts[0] == 0
        assert (counts[1:] - 150).abs().max() < 5 * 150**0.5


def test_views_are_one_kind_each_in_the_published_order() -> None:
    """An asymmetric image shows what was done to it: nothing to the normal view, one labelled thing to the others."""
    image = pixels(1)
    views, labels = TRANSFORMATIONS["paper"](image.expand(500, -1, -1, -1), NO_AUGMENTATION, generator())
    assert labels is not None
    assert views.dtype == torch.uint8
    assert torch.equal(views[::4], image.expand(500, -1, -1, -1))
    assert (labels[::4] == 0).all()
    kinds = labels.view(-1, 4)[:, 1:].flatten()
    counts = torch.bincount(kinds, minlength=5)
    assert counts.tolist() == [0, 375, 375, 375, 375]
    changed = views.view(500, 4, 3, 16, 16)[:, 1:].flatten(0, 1)
    turned = {image[0].rot90(turns, (1, 2)).numpy().tobytes() for turns in (1, 2, 3)}
    assert {view.numpy().tobytes() for view in changed[kinds == 2]} == turned
    assert (changed[kinds == 1][:, 0] == changed[kinds == 1][:, 2]).all()
    for kind, share in ((3, 0.7), (4, 0.99)):  # own parameters; boxes of whole pixels coincide now and then
        assert len({view.numpy().tobytes() for view in changed[kinds == kind]}) > share * 375


def test_flip_is_the_images_and_crop_the_views_own() -> None:
    images = pixels(1, 32, 32).expand(64, -1, -1, -1)
    views, _ = TRANSFORMATIONS["paper"](images, Augmentation(0, True), generator())
    flipped = [torch.equal(view, images[0].flip(2)) for view in views[::4]]
    assert 16 < sum(flipped) < 48
    assert all(flip or torch.equal(view, images[0]) for flip, view in zip(flipped, views[::4], strict=True))
    white = torch.full((200, 3, 8, 8), 255, dtype=torch.uint8)
    views, labels = TRANSFORMATIONS["paper"](white, Augmentation(2, False), generator())
    assert labels is not None
    borders = (views[:, 0] == 0).view(200, 4, 64)
    assert any((borders[j, 0] != borders[j, k]).any() for j in range(200) for k in range(1, 4))
    assert borders.any(2).float().mean() > 0.8  # 24 of 25 offsets show black
