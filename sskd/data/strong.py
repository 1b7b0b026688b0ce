"""A strong augmentation that keeps labels (RandAugment's operations; Cubuk et al. 2020), in batches on the device.

Every image has its own operations and strengths, all from the generator that it is given. Each operation gives what
PIL gives, pixel for pixel (tests/data/test_strong.py). Nothing is sorted by operation and no size depends on a draw, so
no step waits for the device: an operation is a table of tones, a blend with a degenerate image, or a shift of pixels,
and images that drew another operation have the table, the factor or the shift that changes nothing.
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
FACTOR = (0.05, 0.95)  # of brightness, colour, contrast, sharpness: 1 would change nothing
BITS = (4, 8)  # that posterising keeps, the upper end excluded
ANGLE = 30.0  # degrees, to either side
SHEAR = SHIFT = 0.3  # to either side; shifts are in widths
SQUARE = 0.5  # the largest grey square's side, in widths
GREY = (125, 123, 114)
LUMA = (19595, 38470, 7471)  # of 65536: PIL's grey of red, green and blue


@dataclass(frozen=True)
class WeakAndStrong:
    """Two views: the usual crop and flip; and, from a crop and flip of its own, a strongly augmented one."""

    views_per_image = 2

    def __call__(
        self, images: Tensor, augmentation: Augmentation, generator: torch.Generator
    ) -> tuple[Tensor, Tensor | None]:
        weak, strong = (SingleView()(images, augmentation, generator)[0] for _ in range(2))
        return torch.stack([weak, strong_augment(strong, generator)], dim=1).flatten(0, 1), None


def strong_augment(images: Tensor, generator: torch.Generator, operations: int = 2) -> Tensor:
    """(R, 3, H, W) uint8: ``operations`` of the fourteen, drawn with replacement, then a grey square; as in MLKD."""
    rows, device = len(images), images.device
    kinds = torch.randint(len(OPERATIONS), (operations, rows), generator=generator, device=device)
    strengths = torch.rand(operations, rows, generator=generator, device=device)
    for kind, strength in zip(kinds, strengths, strict=True):
        images = operate(images, kind, strength)
    return grey_square(images, torch.rand(3, rows, generator=generator, device=device))


def operate(images: Tensor, kind: Tensor, strength: Tensor) -> Tensor:
    """Each of (R, 3, H, W) uint8 through the operation of its number in OPERATIONS, (R,) int64; strength (R,), 0 to 1,
    is where the operation's own parameter lies in its range."""
    tables = tone_tables(images, kind, strength)
    toned = tables.gather(2, images.flatten(2).long()).view_as(images)
    return moved(blended(toned, kind, strength), kind, strength)


def _is(kind: Tensor, name: str) -> Tensor:
    """(R,) kinds to (R, 1, 1) bool: whether each is that operation."""
    return (kind == OPERATIONS.index(name))[:, None, None]


def _factor(strength: Tensor) -> Tensor:
    return FACTOR[0] + strength * (FACTOR[1] - FACTOR[0])


def grey(images: Tensor) -> Tensor:
    """(R, 3, H, W) uint8 to grey (R, 1, H, W) int32, by PIL's rounding."""
    red, green, blue = images.int().unbind(1)
    return ((LUMA[0] * red + LUMA[1] * green + LUMA[2] * blue + 0x8000) >> 16)[:, None]


def tone_tables(images: Tensor, kind: Tensor, strength: Tensor) -> Tensor:
    """(R, 3, 256) uint8: what each tone of each channel becomes, for the operations that are no more than that."""
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
    """Tables (R, 3, 256) that stretch each channel's tones to 0 .. 255; a channel of one tone stays."""
    there = counts > 0
    low = there.int().argmax(2, keepdim=True)
    high = 255 - there.flip(2).int().argmax(2, keepdim=True)
    span = (high - low).double()
    scale = torch.full_like(span, 255.0) / span  # a number over a tensor would be its rounded reciprocal, times it
    stretched = (level * scale - low * scale).clamp(0, 255)
    return torch.where(high > low, stretched, level).long()


def _equalise(counts: Tensor, level: Tensor) -> Tensor:
    """Tables (R, 3, 256) that make each channel's tones equally frequent, in PIL's integers."""
    highest = 255 - (counts > 0).flip(2).int().argmax(2, keepdim=True)
    step = (counts.sum(2, keepdim=True) - counts.gather(2, highest)) // 255
    below = counts.cumsum(2) - counts
    table = (step // 2 + below) // step.clamp(min=1)
    return torch.where(step > 0, table.clamp(max=255), level)


def blended(images: Tensor, kind: Tensor, strength: Tensor) -> Tensor:
    """Colour and sharpness: each image drawn towards its grey or its smoothed self; all others as they are."""
    plain = images.float()
    degenerate = torch.where(_is(kind, "colour")[:, None], grey(images).float(), _smoothed(plain))
    chosen = _is(kind, "colour") | _is(kind, "sharpness")
    mixed = degenerate + _factor(strength)[:, None, None, None] * (plain - degenerate)
    return torch.where(chosen[:, None], mixed.to(torch.uint8), images)


def _smoothed(images: Tensor) -> Tensor:
    """Floats (R, 3, H, W) through PIL's 3x3 SMOOTH (5 in the middle, ones around it, over 13); its border stays."""
    total = images.unfold(2, 3, 1).unfold(3, 3, 1).sum((4, 5)) + 4 * images[:, :, 1:-1, 1:-1]
    smooth = images.clone()
    smooth[:, :, 1:-1, 1:-1] = (total / 13 + 0.5).floor()
    return smooth


def moved(images: Tensor, kind: Tensor, strength: Tensor) -> Tensor:
    """Rotation, shears and shifts: every pixel takes the nearest of where it comes from; holes are black."""
    height, width = images.shape[2:]
    inverse = _inverse_maps(kind, strength, height, width)
    y, x = (torch.arange(size, device=images.device, dtype=torch.float64) + 0.5 for size in (height, width))
    places = inverse[:, :, 0, None, None] * x + inverse[:, :, 1, None, None] * y[:, None] + inverse[:, :, 2, None, None]
    column, row = places.floor().long().unbind(1)
    inside = (column >= 0) & (column < width) & (row >= 0) & (row < height)
    index = torch.where(inside, row * width + column, 0).flatten(1)
    found = images.flatten(2).gather(2, index[:, None].expand(-1, 3, -1)).view_as(images)
    return torch.where(inside[:, None], found, 0)


def _inverse_maps(kind: Tensor, strength: Tensor, height: int, width: int) -> Tensor:
    """(R, 2, 3) float64: from a pixel's x, y, 1 to the x and y that it comes from; the identity for other kinds."""
    either = 2 * strength.double() - 1  # -1 to 1

    def amount(name: str, largest: float) -> Tensor:
        return torch.where(_is(kind, name)[:, 0, 0], largest * either, 0)

    angle = -amount("rotate", math.radians(ANGLE))  # counter-clockwise, as the image is seen
    cos, sin = angle.cos(), angle.sin()
    x, y = width / 2, height / 2
    right = amount("translate_x", SHIFT * width) + x - cos * x - sin * y
    down = amount("translate_y", SHIFT * height) + y + sin * x - cos * y
    maps = [cos, sin + amount("shear_x", SHEAR), right, amount("shear_y", SHEAR) - sin, cos, down]
    return torch.stack(maps, dim=1).view(-1, 2, 3)


def grey_square(images: Tensor, uniform: Tensor) -> Tensor:
    """A square of GREY on each image: its side and its middle's x and y from (3, R) numbers, 0 to 1."""
    height, width = images.shape[2:]
    side = uniform[0] * SQUARE * width

    def covered(middle: Tensor, size: int) -> Tensor:
        """(R, size): the rows or columns from the square's first to its last, both included."""
        first = (1 + middle * (size - 1) - side / 2).clamp(min=0).floor()
        last = (first + side).clamp(max=size).floor()
        place = torch.arange(size, device=images.device)
        return (place >= first[:, None]) & (place <= last[:, None])

    square = covered(uniform[2], height)[:, :, None] & covered(uniform[1], width)[:, None, :]
    colour = constant(GREY, torch.uint8, images.device).view(3, 1, 1)
    return torch.where(square[:, None], colour, images)
