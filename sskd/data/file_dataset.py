"""Data sets of image files that are read during training."""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from torch import Tensor

from sskd.config.recipe import DatasetSpec
from sskd.data.batch import LoaderConfig
from sskd.data.file_loader import Crop, RandomCrop, StreamLoader
from sskd.data.image_cache import cached
from sskd.data.image_files import Images, ResizeCenterCrop
from sskd.data.memory_loader import RGB, SamplingConfig, evaluation_sampling
from sskd.data.splits import Split, Subset
from sskd.data.views import SingleView, ViewTransform

EVALUATION_BATCH = 128  # maximum; the images are larger than CIFAR's


@dataclass(frozen=True)
class ImageFiles:
    """A data set of image files, with the methods of ImageData.

    Labels: (N,) int64. Training images are random resized crops of ``image_size``. Test images are centre crops of
    ``image_size``, after their shorter side was resized to 256 / 224 of it.
    """

    name: str
    train: Images
    train_labels: Tensor
    test: Images
    test_labels: Tensor
    mean: RGB
    std: RGB
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
        squares, skip = ResizeCenterCrop(spec.cache_size, spec.cache_size), data.skip_corrupt
        return replace(
            data,
            train=cached(self.train, squares, self.cache_folder, "train", skip),
            test=cached(self.test, data._middle, self.cache_folder, "val", skip),
        )

    def train_loader(self, split: Split, sampling: SamplingConfig, config: LoaderConfig) -> StreamLoader:
        """Returns batches of the split. The crop is ImageNet's random resized crop; the padding of the augmentation
        is ignored."""
        augmentation = sampling.augmentation
        crop = RandomCrop(self.image_size, augmentation.flip) if augmentation.resized_crop else self._middle
        return self._loader(self.train, split, crop, sampling, config)

    def test_loader(self, view_transform: ViewTransform, batch_size: int, config: LoaderConfig) -> StreamLoader:
        everything = Split(torch.arange(len(self.test_labels)), self.test_labels)
        # a cache of test images already holds the centre crops
        crop = ResizeCenterCrop(self.image_size, self.image_size) if self.test.cache else self._middle
        return self._loader(
            self.test, everything, crop, evaluation_sampling(view_transform, batch_size, len(self.test_labels)), config
        )

    def test_batches(self, batch_size: int, config: LoaderConfig) -> Iterator[tuple[Tensor, Tensor]]:
        return self.test_loader(SingleView(), min(batch_size, EVALUATION_BATCH), config).in_order()

    def subset_batches(self, subset: Subset, batch_size: int, config: LoaderConfig) -> Iterator[tuple[Tensor, Tensor]]:
        sampling = evaluation_sampling(SingleView(), min(batch_size, EVALUATION_BATCH), len(subset.labels))
        return self._loader(self.train, Split(*subset), self._middle, sampling, config).in_order()

    def _loader(
        self, images: Images, split: Split, crop: Crop, sampling: SamplingConfig, config: LoaderConfig
    ) -> StreamLoader:
        return StreamLoader(images, split, crop, sampling, config, self.mean, self.std, self.skip_corrupt)

    @property
    def _middle(self) -> ResizeCenterCrop:
        return ResizeCenterCrop(round(self.image_size * 256 / 224), self.image_size)
