"""Augmentations by name: what they do to pixels, in every kind of view, and to images that are read from files."""

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from sskd.config.recipe import DatasetSpec, Recipe, SplitSpec
from sskd.data.augment import Augmentation, random_crop, random_flip
from sskd.data.augmentations import AUGMENTATIONS, cut_out
from sskd.data.batch import Batch, LoaderConfig
from sskd.data.datasets.registry import load_dataset
from sskd.data.file_dataset import ImageFiles
from sskd.data.memory_loader import SamplingConfig
from sskd.data.splits import make_split
from sskd.data.strong import GREY, strong_augment
from sskd.data.transformations import TRANSFORMATIONS
from sskd.data.views import Rotations, SingleView, ViewTransform
from sskd.pretext.jigsaw import Puzzles
from sskd.runtime.distributed import Rank
from tests.imagenet_folder import make_imagenet


def pixels(count: int, size: int = 8) -> Tensor:
    return torch.randint(1, 256, (count, 3, size, size), generator=torch.Generator().manual_seed(1), dtype=torch.uint8)


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def test_cutout_squares() -> None:
    """Grey where the square is and untouched elsewhere; its middle is uniform over all pixels, each image's own."""
    images = torch.zeros(6400, 3, 8, 8, dtype=torch.uint8)
    cut = cut_out(images, generator(), 3)
    grey = torch.tensor(GREY, dtype=torch.uint8).view(3, 1, 1)
    covered = (cut == grey).all(1)
    assert (cut[~covered[:, None].expand_as(cut)] == 0).all()
    rows, columns = covered.any(2), covered.any(1)
    assert torch.equal(covered, rows[:, :, None] & columns[:, None, :])
    places = torch.zeros(8, 8)
    for side in (rows, columns):
        inside = side.sum(1)
        assert set(inside.tolist()) == {2, 3}  # 2 where the middle is in the first or last line
    first = [
        torch.where(side.sum(1) == 3, side.int().argmax(1) + 1, 7 * (side[:, 7]).int()) for side in (rows, columns)
    ]
    places.view(-1).index_add_(0, (8 * first[0] + first[1]).long(), torch.ones(6400))
    assert (places - 100).abs().max() < 50  # 100 +- 5 standard deviations


def test_cutout_in_a_plain_view_comes_after_crop_and_flip() -> None:
    images, draws = pixels(6), generator(3)
    views, _ = SingleView()(images, AUGMENTATIONS["cutout"](Recipe(augmentation="cutout", cutout_size=4)), generator(3))
    assert torch.equal(views, cut_out(random_flip(random_crop(images, 4, draws), draws), draws, 4))


def test_none_and_standard() -> None:
    images = pixels(6)
    assert torch.equal(SingleView()(images, AUGMENTATIONS["none"](Recipe(augmentation="none")), generator())[0], images)
    assert AUGMENTATIONS["standard"](Recipe(crop_padding=2, flip=False)) == Augmentation(2, False)
    assert AUGMENTATIONS["strong"](Recipe(augmentation="strong")).transform is strong_augment


@pytest.mark.parametrize(
    "views", [SingleView(), Rotations(), Puzzles(), TRANSFORMATIONS["paper"]], ids=lambda views: type(views).__name__
)
def test_every_view_is_changed_once(views: ViewTransform) -> None:
    """One call transforms all views, so each has its own draws. Views of test images are not transformed."""
    seen: list[Tensor] = []

    def mark(images: Tensor, generator: torch.Generator) -> Tensor:
        seen.append(images)
        return images.clone().fill_(7)

    made, labels = views(pixels(5), Augmentation(1, True, mark), generator())
    assert (made == 7).all()
    assert len(seen) == 1
    assert seen[0].shape == made.shape
    plain, plain_labels = views(pixels(5), Augmentation(1, True), generator())
    assert plain.shape == made.shape
    assert labels is None or plain_labels is not None


# --- image files ------------------------------------------------------------------------------------------------------


@pytest.fixture
def files(tmp_path: Path) -> ImageFiles:
    load_dataset.cache_clear()
    folder = make_imagenet(tmp_path / "imagenet", classes=2, per_class=8, val_per_class=2)
    data = load_dataset(DatasetSpec(name="imagenet", path=str(folder), crop_size=32), tmp_path)
    assert isinstance(data, ImageFiles)
    return data


ALONE = Rank()


def first_batch(data: ImageFiles, augmentation: str, rank: Rank = ALONE, epoch: int = 1, **keys: Any) -> Batch:
    made = AUGMENTATIONS[augmentation](Recipe(augmentation=augmentation, **keys))
    split = make_split(data.train_labels, data.num_classes, SplitSpec())
    loader = data.train_loader(
        split, SamplingConfig(8, SingleView(), made), LoaderConfig(torch.device("cpu"), rank=rank, workers=0)
    )
    return next(loader.epoch(epoch))


def test_none_is_the_middle_of_image_files(files: ImageFiles) -> None:
    """The pixels of an image are the same in every epoch; with crops they are not."""
    for name, fixed in (("none", True), ("standard", False)):
        one, two = (first_batch(files, name, epoch=epoch) for epoch in (1, 2))
        both = set(one.indices.tolist()) & set(two.indices.tolist())
        assert both
        for index in both:
            a, b = (batch.images[batch.indices.tolist().index(index)] for batch in (one, two))
            assert torch.equal(a, b) == fixed


def test_processes_that_share_a_batch_draw_for_their_own_rows(files: ImageFiles) -> None:
    """Their squares lie in different places; what a method draws afterwards is the same in both."""
    both = [first_batch(files, "cutout", Rank(rank, 2), cutout_size=10) for rank in (0, 1)]
    plain = [first_batch(files, "standard", Rank(rank, 2)) for rank in (0, 1)]
    squares = [(cut.images != whole.images).any(1) for cut, whole in zip(both, plain, strict=True)]
    assert not torch.equal(*squares)
    assert torch.equal(*(torch.rand(3, generator=batch.generator) for batch in both))
