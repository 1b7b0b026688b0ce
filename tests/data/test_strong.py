"""The strong augmentation: PIL's operations pixel for pixel, each image with its own draws."""

from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image, ImageDraw, ImageEnhance, ImageOps
from torch import Tensor

from sskd.data import strong
from sskd.data.augment import Augmentation
from sskd.data.strong import OPERATIONS, WeakAndStrong, operate, strong_augment


def pictures(count: int = 12, size: int = 32) -> Tensor:
    """Smooth images of few tones, noise, one of a single tone, one with two."""
    generator = torch.Generator().manual_seed(0)
    coarse = torch.rand(count, 3, 4, 4, generator=generator)
    smooth = torch.nn.functional.interpolate(coarse, size=(size, size), mode="bicubic").clamp(0, 1)
    images = (40 + 150 * smooth).to(torch.uint8)
    images[0] = torch.randint(256, (3, size, size), generator=generator, dtype=torch.uint8)
    images[1] = 77
    images[2, :, :5] = 200
    return images


def as_pil(image: Tensor) -> Image.Image:
    return Image.fromarray(image.permute(1, 2, 0).numpy())


def by_pil(name: str, image: Image.Image, u: float) -> Image.Image:
    """The operation with its parameter at ``u`` (0 to 1) of its range, as PIL has it."""
    factor, either = 0.05 + 0.9 * u, 0.3 * (2 * u - 1)
    width = image.size[0]

    def affine(*coefficients: float) -> Image.Image:
        return image.transform(image.size, Image.Transform.AFFINE, coefficients)

    made: dict[str, Any] = {
        "autocontrast": lambda: ImageOps.autocontrast(image),
        "equalise": lambda: ImageOps.equalize(image),
        "identity": lambda: image,
        "brightness": lambda: ImageEnhance.Brightness(image).enhance(factor),
        "colour": lambda: ImageEnhance.Color(image).enhance(factor),
        "contrast": lambda: ImageEnhance.Contrast(image).enhance(factor),
        "sharpness": lambda: ImageEnhance.Sharpness(image).enhance(factor),
        "posterise": lambda: ImageOps.posterize(image, int(4 + 4 * u)),
        "solarise": lambda: ImageOps.solarize(image, 256 * u),
        "rotate": lambda: image.rotate(30 * (2 * u - 1)),
        "shear_x": lambda: affine(1, either, 0, 0, 1, 0),
        "shear_y": lambda: affine(1, 0, 0, either, 1, 0),
        "translate_x": lambda: affine(1, 0, either * width, 0, 1, 0),
        "translate_y": lambda: affine(1, 0, 0, 0, 1, either * width),
    }
    return made[name]()


@pytest.mark.parametrize("name", OPERATIONS)
def test_operations_are_pils(name: str) -> None:
    """The second half of the batch has other operations, which must not change the first."""
    images = pictures()
    strengths = torch.rand(len(images), generator=torch.Generator().manual_seed(1))
    kinds = torch.arange(2 * len(images)) % len(OPERATIONS)
    kinds[: len(images)] = OPERATIONS.index(name)
    found = operate(images.repeat(2, 1, 1, 1), kinds, strengths.repeat(2))[: len(images)]
    by_pillow = [np.asarray(by_pil(name, as_pil(i), u)) for i, u in zip(images, strengths.tolist(), strict=True)]
    expected = torch.from_numpy(np.stack(by_pillow)).permute(0, 3, 1, 2)
    far = (found.int() - expected.int()).abs()
    assert (far > 0).float().mean() < 0.001  # PIL computes places in 1/65536 of a pixel, and factors in float64
    if name not in ("rotate", "shear_x", "shear_y"):
        assert far.max() <= 1
    assert name == "identity" or (found != images).any()


def test_the_square_is_pils() -> None:
    images = pictures()
    uniform = torch.rand(3, len(images), generator=torch.Generator().manual_seed(2))
    covered = strong.grey_square(images, uniform)
    for image, found, (side, x, y) in zip(images, covered, uniform.T.tolist(), strict=True):
        drawn, side = as_pil(image), 16 * side
        left, top = (int(max(0, 1 + 31 * middle - side / 2)) for middle in (x, y))
        box = (left, top, int(min(32, left + side)), int(min(32, top + side)))
        ImageDraw.Draw(drawn).rectangle(box, strong.GREY)
        assert np.array_equal(found.permute(1, 2, 0).numpy(), np.asarray(drawn))


def test_every_image_has_its_own_draws_and_they_repeat() -> None:
    images = pictures()[3:4].expand(64, -1, -1, -1).contiguous()
    first = strong_augment(images, torch.Generator().manual_seed(5))
    assert len({bytes(image.numpy()) for image in first}) > 60
    assert torch.equal(first, strong_augment(images, torch.Generator().manual_seed(5)))


def test_the_weak_view_is_the_usual_one_and_comes_first() -> None:
    images = pictures()
    views, labels = WeakAndStrong()(images, Augmentation(padding=0, flip=False), torch.Generator().manual_seed(4))
    assert labels is None
    assert views.shape == (24, 3, 32, 32)
    assert torch.equal(views[::2], images)
    assert all((strong != weak).any() for weak, strong in zip(views[::2], views[1::2], strict=True))
