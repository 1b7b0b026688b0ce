"""A data set of image files, which are read while training."""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from torch import Tensor

from sskd.config.recipe import DatasetSpec
from sskd.data.batch import Feed
from sskd.data.datasets.registry import still_drawing
from sskd.data.file_loader import RandomCrop, StreamLoader
from sskd.data.image_files import Images, Middle, cached
from sskd.data.memory_loader import Drawing, Triple
from sskd.data.splits import Part, Split
from sskd.data.views import Plain, Views

EVALUATION_BATCH = 128  # images at most: these are larger than CIFAR's


@dataclass(frozen=True)
class ImageFiles:
    """A data set of image files. Labels: (N,) int64. Training images are seen as random resized crops of
    ``image_size``, test images as the middle square after their shorter side was made 256 / 224 of that."""

    name: str
    train: Images
    train_labels: Tensor
    test: Images
    test_labels: Tensor
    mean: Triple
    std: Triple
    class_names: tuple[str, ...]
    cache_folder: Path
    image_size: int = 224
    skip_corrupt: bool = False

    @property
    def num_classes(self) -> int:
        return len(self.class_names)

    def configured(self, spec: DatasetSpec) -> "ImageFiles":
        data = replace(self, image_size=spec.crop_size, skip_corrupt=spec.corrupt == "skip")
        if spec.cache_size is None:
            return data
        squares, skip = Middle(spec.cache_size, spec.cache_size), data.skip_corrupt
        return replace(
            data,
            train=cached(self.train, squares, self.cache_folder, "train", skip),
            test=cached(self.test, data._middle, self.cache_folder, "val", skip),
        )

    def train_loader(self, split: Split, drawing: Drawing, feed: Feed) -> StreamLoader:
        """The crop is the random resized one of ImageNet, whatever padding the augmentation has."""
        augmentation = drawing.augmentation
        crop = RandomCrop(self.image_size, augmentation.flip) if augmentation.resized_crop else self._middle
        return StreamLoader(self.train, split, crop, drawing, feed, self.mean, self.std, self.skip_corrupt)

    def test_loader(self, views: Views, batch_size: int, feed: Feed) -> StreamLoader:
        everything = Split(torch.arange(len(self.test_labels)), self.test_labels)
        # a cache of test images holds what is seen of them
        crop = Middle(self.image_size, self.image_size) if self.test.cache else self._middle
        drawing = still_drawing(views, batch_size, len(self.test_labels))
        return StreamLoader(self.test, everything, crop, drawing, feed, self.mean, self.std, self.skip_corrupt)

    def test_batches(self, batch_size: int, feed: Feed) -> Iterator[tuple[Tensor, Tensor]]:
        for batch in self.test_loader(Plain(), min(batch_size, EVALUATION_BATCH), feed).in_order():
            yield batch.images, batch.labels

    def held_out_batches(self, part: Part, batch_size: int, feed: Feed) -> Iterator[tuple[Tensor, Tensor]]:
        drawing = still_drawing(Plain(), min(batch_size, EVALUATION_BATCH), len(part.labels))
        images = Split(*part)
        middle = StreamLoader(self.train, images, self._middle, drawing, feed, self.mean, self.std, self.skip_corrupt)
        for batch in middle.in_order():
            yield batch.images, batch.labels

    @property
    def _middle(self) -> Middle:
        return Middle(round(self.image_size * 256 / 224), self.image_size)
