"""Batched strong augmentation that keeps labels: the operations of RandAugment (Cubuk et al. 2020).

Every image draws its own operations and strengths from ``generator``. The result of each operation equals PIL's, pixel
for pixel (tests/data/test_strong.py). Images are not sorted by operation and no size depends on a draw, so there is no
host-device synchronisation: an operation is a lookup table, a blend with a degenerate image, or a shift of pixels, and
images with another operation get the identity table, factor or shift.
"""

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from sskd.data.augment import Augmentation
from sskd.data.views import SingleView
from sskd.runtime.device import constant

OPERATIONS = (
    "autocontrast",
    "equalise",
    "identity",
    "brightness",
    "colour",
    "contrast",
    "sharpness",
    "posterise",
    "solarise",
    "rotate",
    "shear_x",
    "shear_y",
    "translate_x",
    "translate_y",
)
FACTOR = (0.05, 0.95)  # of brightness, colour, contrast, sharpness; 1 is the identity
BITS = (4, 8)  # kept by posterise; the upper end is excluded
ANGLE = 30.0  # degrees, in both directions
SHEAR = SHIFT = 0.3  # in both directions; shifts are relative to the image size
SQUARE = 0.5  # maximum side of the grey square, relative to the width
GREY = (125, 123, 114)
LUMA = (19595, 38470, 7471)  # / 65536: weights of red, green and blue in PIL's grey


@dataclass(frozen=True)
class WeakAndStrong:
    """Two views: crop and flip; and, from an independent crop and flip, the strongly augmented view."""

    views_per_image = 2

    def __call__(
        self, images: Tensor, augmentation: Augmentation, generator: torch.Generator
    ) -> tuple[Tensor, Tensor | None]:
        weak, strong = (SingleView()(images, augmentation, generator)[0] for _ in range(2))
        return torch.stack([weak, strong_augment(strong, generator)], dim=1).flatten(0, 1), None


def strong_augment(images: Tensor, generator: torch.Generator, operations: int = 2) -> Tensor:
    """Applies ``operations`` of the fourteen to (R, 3, H, W) uint8, drawn with replacement, then covers a grey
    square; as in MLKD."""
    rows, device = len(images), images.device
    kinds = torch.randint(len(OPERATIONS), (operations, rows), generator=generator, device=device)
    strengths = torch.rand(operations, rows, generator=generator, device=device)
    for kind, strength in zip(kinds, strengths, strict=True):
        images = operate(images, kind, strength)
    return grey_square(images, torch.rand(3, rows, generator=generator, device=device))


def operate(images: Tensor, kind: Tensor, strength: Tensor) -> Tensor:
    """Applies to each of (R, 3, H, W) uint8 the operation with index ``kind`` (R,) int64 in OPERATIONS. ``strength``
    (R,), 0 to 1, is the position in the range of the operation's parameter."""
    tables = tone_tables(images, kind, strength)
    toned = tables.gather(2, images.flatten(2).long()).view_as(images)
    return moved(blended(toned, kind, strength), kind, strength)


def _is(kind: Tensor, name: str) -> Tensor:
    """Maps kinds (R,) to (R, 1, 1) bool: True for images with that operation."""
    return (kind == OPERATIONS.index(name))[:, None, None]


def _factor(strength: Tensor) -> Tensor:
    return FACTOR[0] + strength * (FACTOR[1] - FACTOR[0])


def grey(images: Tensor) -> Tensor:
    """Converts (R, 3, H, W) uint8 to grey (R, 1, H, W) int32, rounded as in PIL."""
    red, green, blue = images.int().unbind(1)
    return ((LUMA[0] * red + LUMA[1] * green + LUMA[2] * blue + 0x8000) >> 16)[:, None]


def tone_tables(images: Tensor, kind: Tensor, strength: Tensor) -> Tensor:
    """Returns lookup tables (R, 3, 256) uint8 for the operations that map each tone of a channel to another tone."""
    level = torch.arange(256, device=images.device)
    u = strength[:, None, None]
    factor = _factor(u)
    mean = (grey(images).flatten(1).double().mean(1) + 0.5).floor().float()[:, None, None]
    counts = torch.zeros(len(images), 3, 256, dtype=torch.int64, device=images.device)
    counts.scatter_add_(2, images.flatten(2).long(), torch.ones_like(images.flatten(2), dtype=torch.int64))
    bits = (BITS[0] + (BITS[1] - BITS[0]) * u).long()
    changed = {
        "autocontrast": _autocontrast(counts, level),
        "equalise": _equalise(counts, level),
        "brightness": (factor * level).long(),
        "contrast": (mean + factor * (level - mean)).long(),
        "posterise": level & -(1 << (8 - bits)),
        "solarise": torch.where(level < 256 * u, level, 255 - level),
    }
    tables = level.expand(len(images), 3, 256)
    for name, table in changed.items():
        tables = torch.where(_is(kind, name), table, tables)
    return tables.to(torch.uint8)


def _autocontrast(counts: Tensor, level: Tensor) -> Tensor:
    """Returns tables (R, 3, 256) that stretch each channel to 0..255; a channel with a single tone does not change."""
    there = counts > 0
    low = there.int().argmax(2, keepdim=True)
    high = 255 - there.flip(2).int().argmax(2, keepdim=True)
    span = (high - low).double()
    scale = torch.full_like(span, 255.0) / span  # number / tensor would multiply by a rounded reciprocal
    stretched = (level * scale - low * scale).clamp(0, 255)
    return torch.where(high > low, stretched, level).long()


def _equalise(counts: Tensor, level: Tensor) -> Tensor:
    """Returns tables (R, 3, 256) that equalise the histogram of each channel, in PIL's integer arithmetic."""
    highest = 255 - (counts > 0).flip(2).int().argmax(2, keepdim=True)
    step = (counts.sum(2, keepdim=True) - counts.gather(2, highest)) // 255
    below = counts.cumsum(2) - counts
    table = (step // 2 + below) // step.clamp(min=1)
    return torch.where(step > 0, table.clamp(max=255), level)


def blended(images: Tensor, kind: Tensor, strength: Tensor) -> Tensor:
    """Colour and sharpness: blends an image with its grey or its smoothed version. Other images do not change."""
    plain = images.float()
    degenerate = torch.where(_is(kind, "colour")[:, None], grey(images).float(), _smoothed(plain))
    chosen = _is(kind, "colour") | _is(kind, "sharpness")
    mixed = degenerate + _factor(strength)[:, None, None, None] * (plain - degenerate)
    return torch.where(chosen[:, None], mixed.to(torch.uint8), images)


def _smoothed(images: Tensor) -> Tensor:
    """Applies PIL's 3x3 SMOOTH filter (5 in the centre, 1 around it, over 13) to floats (R, 3, H, W); the border
    does not change."""
    total = images.unfold(2, 3, 1).unfold(3, 3, 1).sum((4, 5)) + 4 * images[:, :, 1:-1, 1:-1]
    smooth = images.clone()
    smooth[:, :, 1:-1, 1:-1] = (total / 13 + 0.5).floor()
    return smooth


def moved(images: Tensor, kind: Tensor, strength: Tensor) -> Tensor:
    """Rotation, shears and shifts with nearest-neighbour sampling; pixels from outside the image are black."""
    height, width = images.shape[2:]
    inverse = _inverse_maps(kind, strength, height, width)
    y, x = (torch.arange(size, device=images.device, dtype=torch.float64) + 0.5 for size in (height, width))
    source = inverse[:, :, 0, None, None] * x + inverse[:, :, 1, None, None] * y[:, None] + inverse[:, :, 2, None, None]
    column, row = source.floor().long().unbind(1)
    inside = (column >= 0) & (column < width) & (row >= 0) & (row < height)
    index = torch.where(inside, row * width + column, 0).flatten(1)
    found = images.flatten(2).gather(2, index[:, None].expand(-1, 3, -1)).view_as(images)
    return torch.where(inside[:, None], found, 0)


def _inverse_maps(kind: Tensor, strength: Tensor, height: int, width: int) -> Tensor:
    """Returns (R, 2, 3) float64: affine maps from the (x, y, 1) of an output pixel to the x and y of its source;
    identity for other kinds."""
    either = 2 * strength.double() - 1  # -1 to 1

    def amount(name: str, largest: float) -> Tensor:
        return torch.where(_is(kind, name)[:, 0, 0], largest * either, 0)

    angle = -amount("rotate", math.radians(ANGLE))  # counter-clockwise as seen on the screen
    cos, sin = angle.cos(), angle.sin()
    x, y = width / 2, height / 2
    right = amount("translate_x", SHIFT * width) + x - cos * x - sin * y
    down = amount("translate_y", SHIFT * height) + y + sin * x - cos * y
    maps = [cos, sin + amount("shear_x", SHEAR), right, amount("shear_y", SHEAR) - sin, cos, down]
    return torch.stack(maps, dim=1).view(-1, 2, 3)


def grey_square(images: Tensor, uniform: Tensor) -> Tensor:
    """Covers a square of GREY on each image; ``uniform`` (3, R), 0 to 1, decides its side and the x and y of its
    centre."""
    height, width = images.shape[2:]
    side = uniform[0] * SQUARE * width

    def covered(middle: Tensor, size: int) -> Tensor:
        """Returns (R, size) bool: the rows or columns of the square, its first and last included."""
        first = (1 + middle * (size - 1) - side / 2).clamp(min=0).floor()
        last = (first + side).clamp(max=size).floor()
        index = torch.arange(size, device=images.device)
        return (index >= first[:, None]) & (index <= last[:, None])

    square = covered(uniform[2], height)[:, :, None] & covered(uniform[1], width)[:, None, :]
    colour = constant(GREY, torch.uint8, images.device).view(3, 1, 1)
    return torch.where(square[:, None], colour, images)
