"""Checks the inputs of a training step and converts them to a batch with the method's views."""

from typing import NamedTuple

import torch
from torch import Tensor

from sskd.config.networks import Statistics
from sskd.data.augment import Augmentation
from sskd.data.batch import Batch
from sskd.data.memory_loader import RGB, Normalise
from sskd.data.views import Rotated, Rotations, SingleView, ViewTransform
from sskd.errors import UserError

UNCHANGED = Augmentation(padding=0, flip=False)  # the loader has already augmented
GEOMETRIC = (SingleView, Rotations, Rotated)  # they only move pixels, so normalised floats are fine


def statistics_of(mean: RGB | None, std: RGB | None) -> Statistics | None:
    """Returns the normalisation statistics, or None if unknown. Raises UserError if only one of the two is given."""
    if (mean is None) != (std is None):
        raise UserError("give both mean and std, or neither")
    return None if mean is None or std is None else Statistics(mean, std)


class Inputs(NamedTuple):
    """Properties of a loop's batches. image_size: side in pixels. statistics: normalisation of float images; None:
    unknown. train_images: number of training images; 0: unknown."""

    whose: str  # prefix of error messages: "method 'crd'"
    num_classes: int
    image_size: int
    required: frozenset[str]
    statistics: Statistics | None = None
    augmentation: Augmentation | None = None
    train_images: int = 0

    def batch(
        self,
        view_transform: ViewTransform,
        images: Tensor,
        labels: Tensor,
        indices: Tensor | None,
        view_labels: Tensor | None,
        draws: torch.Generator,
        check_values: bool,
    ) -> Batch:
        """Returns the batch, with its images in the views of ``view_transform``.

        images: (B, 3, H, W), uint8 or normalised floats; or (V * B, 3, H, W) normalised floats that are views already.
        labels, indices: (B,) int64. check_values: also check values, which synchronises host and GPU. Raises UserError
        if an input is wrong.
        """
        self._check(view_transform, images, labels, indices, check_values)
        if len(images) == len(labels):
            images, view_labels = self._in_views(view_transform, images, draws)
        if indices is None:
            indices = torch.full_like(labels, -1)
        return Batch(images, labels, indices, view_labels, draws, len(labels))

    def _in_views(
        self, view_transform: ViewTransform, images: Tensor, draws: torch.Generator
    ) -> tuple[Tensor, Tensor | None]:
        augmentation = self.augmentation or UNCHANGED
        floats = images.is_floating_point()
        if floats and self.augmentation is None and isinstance(view_transform, GEOMETRIC):
            return view_transform(images, augmentation, draws)
        if self.statistics is None:
            given = "uint8 images must be normalised" if not floats else "its views are made from pixels"
            raise UserError(f"{self.whose}: {given}: give mean and std per channel, of pixels / 255")
        mean, std = (torch.tensor(values, device=images.device).view(3, 1, 1) for values in self.statistics)
        pixels = ((images * std + mean) * 255).round().clamp(0, 255).to(torch.uint8) if floats else images
        made, view_labels = view_transform(pixels, augmentation, draws)
        last = images.is_contiguous(memory_format=torch.channels_last)
        return Normalise(*self.statistics, images.device, last)(made), view_labels

    def _check(
        self, view_transform: ViewTransform, images: Tensor, labels: Tensor, indices: Tensor | None, check_values: bool
    ) -> None:
        count, size = len(labels), self.image_size
        if labels.dim() != 1 or labels.dtype != torch.int64:
            raise UserError(f"labels are {_described(labels)}; expected class indices (B,) int64")
        if images.dim() != 4 or images.shape[1] != 3:
            raise UserError(f"images are {_described(images)}; expected (B, 3, H, W)")
        if tuple(images.shape[2:]) != (size, size):
            found = " x ".join(map(str, images.shape[2:]))
            raise UserError(f"images are {found}; expected {size} x {size}, as the sample")
        if not images.is_floating_point() and images.dtype != torch.uint8:
            raise UserError(f"images are {images.dtype}; expected uint8 (0 to 255) or normalised floats")
        if len(images) not in (count, view_transform.views_per_image * count) or (
            len(images) != count and images.dtype == torch.uint8
        ):
            raise UserError(f"there are {len(images)} images and {count} labels; expected one label per image")
        if count < 2:
            raise UserError(
                f"the batch has {count} image; batch norm and the methods need at least two: use drop_last=True"
            )
        if "indices" in self.required and indices is None:
            raise UserError(
                f"{self.whose} needs the images' indices in the training set: call it with images, labels, indices"
            )
        if indices is not None and indices.shape != labels.shape:
            raise UserError(f"indices are {_described(indices)}; expected one per label ({count})")
        if check_values and not torch.compiler.is_compiling():
            self._check_values(images, labels, indices)

    def _check_values(self, images: Tensor, labels: Tensor, indices: Tensor | None) -> None:
        low, high = int(labels.min()), int(labels.max())
        if low < 0 or high >= self.num_classes:
            raise UserError(f"labels are {low} to {high}; expected 0 to {self.num_classes - 1}")
        if indices is not None and self.train_images:
            low, high = int(indices.min()), int(indices.max())
            if low < 0 or high >= self.train_images:
                raise UserError(f"indices are {low} to {high}; expected 0 to {self.train_images - 1}")
        if images.is_floating_point() and not bool(images.isfinite().all()):
            raise UserError("images have NaN or infinite values")


def _described(tensor: Tensor) -> str:
    return f"{tuple(tensor.shape)} {str(tensor.dtype).removeprefix('torch.')}"
