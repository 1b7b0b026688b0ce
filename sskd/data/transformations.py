"""The registry of transformations for pretext tasks: "rotation" (as in the published code) and "paper".

We do not use kornia: it took more than twice as long on the CPU, draws from the global generator, and needs the views
sorted by kind (docs/differences.md has the rates).
"""

import math
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F

from sskd.data.augment import Augmentation, random_crop, random_flip
from sskd.data.views import Rotations, ViewTransform
from sskd.registry import Registry
from sskd.runtime.device import constant

TRANSFORMATIONS: Registry[ViewTransform] = Registry("transformation", "sskd.data")
TRANSFORMATIONS.register("rotation")(Rotations())

# Chen et al., ICML 2020 (SimCLR): crops as in appendix A, colour strength 0.5 as for CIFAR-10
CROP_AREA = (0.08, 1.0)  # relative to the image
CROP_ASPECT = (3 / 4, 4 / 3)  # width / height, log-uniform
COLOUR = 0.4  # brightness, contrast and saturation: factors from 1 - COLOUR to 1 + COLOUR
HUE = 0.1  # shift in turns of the colour circle, in both directions
LUMA = (0.2989, 0.587, 0.114)  # weights of red, green and blue (ITU-R 601-2, as in torchvision and PIL)


class Boxes(NamedTuple):
    """Crop boxes of R images in pixels; all (R,), whole numbers stored as floats."""

    top: Tensor
    left: Tensor
    height: Tensor
    width: Tensor


class Colours(NamedTuple):
    """Colour distortions of R images; all (R,). 1, 1, 1, 0 is the identity."""

    brightness: Tensor  # factors
    contrast: Tensor
    saturation: Tensor
    hue: Tensor  # turns, -0.5 to 0.5


class PaperTransformations:
    """Four views: the normal one, and three that each get one of the paper's four transformations (section 3.1): 1
    colour dropping, 2 rotation by 90, 180 or 270 degrees, 3 random crop with resize (bilinear), 4 colour distortion
    (brightness, contrast, saturation, hue, in this order).

    The order is flip, transformation, then an independent crop per view, as for the rotations. Labels: 0 for the normal
    view, else the number of the transformation.

    Each view draws its own parameters. The transformation of a view is assigned by a random permutation, not by
    independent draws, so all four occur equally often in a batch (up to rounding). All tensor sizes are therefore known
    in advance, and no step needs a host-device synchronisation.

    The paper gives no ranges. We use those of SimCLR, from which the paper takes the list: crops of 8 % to 100 % of the
    area with aspect ratios 3:4 to 4:3, factors 0.6 to 1.4 for brightness, contrast and saturation, and a hue shift of
    at most 0.1.
    """

    views_per_image = 4

    def __call__(
        self, images: Tensor, augmentation: Augmentation, generator: torch.Generator
    ) -> tuple[Tensor, Tensor | None]:
        if augmentation.flip:
            images = random_flip(images, generator)
        views = images[:, None].repeat(1, 4, 1, 1, 1)
        changed, kinds = transform(views[:, 1:].flatten(0, 1), generator)
        views[:, 1:] = changed.unflatten(0, (-1, 3))
        labels = F.pad(kinds.view(-1, 3), (1, 0)).flatten()
        cropped = random_crop(views.flatten(0, 1), augmentation.padding, generator)
        return augmentation.transform(cropped, generator), labels


TRANSFORMATIONS.register("paper")(PaperTransformations())


def transform(images: Tensor, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """Applies one of the four transformations to each of R images (R, 3, H, W) uint8. Returns uint8 images and their
    transformations (R,) int64, 1 to 4."""
    rows, _, height, width = images.shape
    share = -(-rows // 4)  # per transformation; up to three surplus rows are dropped at the end
    deck = torch.randperm(4 * share, generator=generator, device=images.device)
    dropped, rotated, cropped, distorted = images[deck.clamp(max=rows - 1)].split(share)
    uniform = torch.rand(9, share, generator=generator, device=images.device)
    done = torch.cat(
        [
            to_pixels(grey(dropped.float()).expand(-1, 3, -1, -1)),
            rotate(rotated, 1 + (3 * uniform[0]).long()),
            to_pixels(resized_crop(cropped.float(), boxes(uniform[1:5], height, width))),
            to_pixels(distort(distorted.float(), colours(uniform[5:]))),
        ]
    )
    position = deck.argsort()[:rows]
    return done[position], position // share + 1


def to_pixels(images: Tensor) -> Tensor:
    """Rounds floats, 0 to 255, to uint8."""
    return images.round().to(torch.uint8)


def rotate(images: Tensor, turns: Tensor) -> Tensor:
    """Rotates square images (R, C, S, S) counter-clockwise by ``turns`` (R,) int64 quarter turns, 1 to 3."""
    every = torch.stack([images.rot90(turn, (2, 3)) for turn in (1, 2, 3)])
    return every[turns - 1, torch.arange(len(images), device=images.device)]


def boxes(uniform: Tensor, height: int, width: int) -> Boxes:
    """Maps uniform numbers (4, R), 0 to 1, to crop boxes in images of height x width. Boxes are clipped to the
    image."""
    area = height * width * (CROP_AREA[0] + uniform[0] * (CROP_AREA[1] - CROP_AREA[0]))
    low, high = (math.log(aspect) for aspect in CROP_ASPECT)
    aspect = (low + uniform[1] * (high - low)).exp()
    tall, wide = (area / aspect).sqrt().round().clamp(1, height), (area * aspect).sqrt().round().clamp(1, width)
    top, left = (uniform[2] * (height - tall + 1)).floor(), (uniform[3] * (width - wide + 1)).floor()
    return Boxes(top.minimum(height - tall), left.minimum(width - wide), tall, wide)


def resized_crop(images: Tensor, box: Boxes) -> Tensor:
    """Resizes each image's box of floats (R, C, H, W) to H x W: bilinear, without using pixels outside the box."""
    height, width = images.shape[2:]

    def along(size: int, start: Tensor, length: Tensor) -> Tensor:
        """Returns (R, size): the source coordinates of the output pixels, in grid_sample's range -1 to 1."""
        share = (torch.arange(size, device=images.device) + 0.5) / size
        inside = torch.minimum((share * length[:, None] - 0.5).clamp(min=0), length[:, None] - 1)
        return (2 * (start[:, None] + inside) + 1) / size - 1

    y, x = along(height, box.top, box.height), along(width, box.left, box.width)
    grid = torch.stack([x[:, None, :].expand(-1, height, -1), y[:, :, None].expand(-1, -1, width)], dim=3)
    return F.grid_sample(images, grid, mode="bilinear", padding_mode="border", align_corners=False)


def colours(uniform: Tensor) -> Colours:
    """Maps uniform numbers (4, R), 0 to 1, to colour distortions."""
    factors = 1 - COLOUR + 2 * COLOUR * uniform[:3]
    return Colours(factors[0], factors[1], factors[2], HUE * (2 * uniform[3] - 1))


def distort(images: Tensor, how: Colours) -> Tensor:
    """Changes brightness, contrast, saturation and hue of floats (R, 3, H, W), 0 to 255, as torchvision does."""
    brightness, contrast, saturation, hue = (p.view(-1, 1, 1, 1) for p in how)
    images = (images * brightness).clamp_(max=255)
    mean = grey(images).mean((2, 3), keepdim=True)
    images = torch.lerp(mean, images, contrast).clamp_(0, 255)
    images = torch.lerp(grey(images), images, saturation).clamp_(0, 255)
    return shift_hue(images, hue)


def grey(images: Tensor) -> Tensor:
    """Returns the luma (R, 1, H, W) of (R, 3, H, W)."""
    return (images * constant(LUMA, images.dtype, images.device).view(1, 3, 1, 1)).sum(1, keepdim=True)


def shift_hue(images: Tensor, turns: Tensor) -> Tensor:
    """Shifts the hue in HSV by ``turns`` (R, 1, 1, 1); value and saturation do not change."""
    red, green, blue = images.split(1, dim=1)
    value, low = images.amax(1, keepdim=True), images.amin(1, keepdim=True)
    chroma = value - low
    # in sixths of a turn; undefined for a grey pixel, where any value will do
    sector = torch.where(
        value == red, green - blue, torch.where(value == green, blue - red, red - green)
    ) / chroma.clamp(min=1e-6)
    sector += torch.where(value == red, 0, torch.where(value == green, 2, 4)) + 6 * turns
    # each channel is a trapezoid over the circle: full within one sixth of its own colour, zero on the opposite side
    own = constant((5.0, 3.0, 1.0), torch.float32, images.device).view(1, 3, 1, 1)
    along = (own + sector).remainder_(6)
    missing = torch.minimum(along, 4 - along).clamp_(0, 1)
    return value - chroma * missing
