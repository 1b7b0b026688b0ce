"""ImageNet's folders: what is found in them, what is refused, and batches that follow from the seed alone."""

import os
import shutil
import signal
import time
import warnings
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

import sskd.data.image_files as decoding
from sskd.config.recipe import DatasetSpec, Recipe, SplitSpec
from sskd.config.validation import from_dict
from sskd.data import file_loader
from sskd.data.augment import Augmentation
from sskd.data.augmentations import AUGMENTATIONS
from sskd.data.batch import Batch, LoaderConfig
from sskd.data.datasets.registry import load_dataset
from sskd.data.file_dataset import ImageFiles
from sskd.data.memory_loader import SamplingConfig
from sskd.data.splits import make_split
from sskd.data.views import Rotations, SingleView
from sskd.errors import UserError
from sskd.runtime.distributed import Rank
from tests.imagenet_folder import make_imagenet, truncate

CPU = torch.device("cpu")


@pytest.fixture(scope="session")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_imagenet(tmp_path_factory.mktemp("imagenet"), classes=3, per_class=12, val_per_class=4)


@pytest.fixture(autouse=True)
def _fresh() -> None:
    load_dataset.cache_clear()


def load(folder: Path, root: Path, **options: Any) -> ImageFiles:
    data = load_dataset(DatasetSpec(name="imagenet", path=str(folder), **({"crop_size": 32} | options)), root)
    assert isinstance(data, ImageFiles)
    return data


def batches(
    data: ImageFiles,
    workers: int = 0,
    rank: Rank = Rank(),  # noqa: B008
    start: int = 0,
    views: Any = SingleView(),  # noqa: B008
    split: SplitSpec = SplitSpec(),  # noqa: B008
    epoch: int = 1,
    augmentation: Augmentation = Augmentation(),  # noqa: B008
) -> list[Batch]:
    made = make_split(data.train_labels, data.num_classes, split)
    config = LoaderConfig(CPU, rank=rank, workers=workers)
    loader = data.train_loader(made, SamplingConfig(8, views, augmentation), config)
    return list(loader.epoch(epoch, start))


def same(a: list[Batch], b: list[Batch]) -> bool:
    return len(a) == len(b) and all(
        torch.equal(x.images, y.images) and torch.equal(x.labels, y.labels) and torch.equal(x.indices, y.indices)
        for x, y in zip(a, b, strict=True)
    )


def test_folders_and_labels(folder: Path, tmp_path: Path) -> None:
    data = load(folder, tmp_path)
    assert data.class_names == ("n00000000", "n00000001", "n00000002")
    assert len(data.train) == 36
    assert len(data.test) == 12
    for number in (0, 17, 35):
        assert data.class_names[data.train_labels[number]] == data.train.path(number).parent.name
    modes = {Image.open(data.train.path(n)).mode for n in range(36)}
    assert modes == {"RGB", "L", "CMYK"}
    for n in range(36):
        expected = torch.from_numpy(np.array(Image.open(data.train.path(n)).convert("RGB")))
        assert torch.equal(data.train.open(n), expected.permute(2, 0, 1))


@pytest.mark.parametrize(("workers", "size"), [(1, 1), (2, 1), (0, 2), (1, 3)])
def test_the_same_pixels_whoever_makes_them(folder: Path, tmp_path: Path, workers: int, size: int) -> None:
    data, before = load(folder, tmp_path), torch.get_rng_state()
    whole = batches(data)
    assert torch.equal(before, torch.get_rng_state())
    assert [len(batch.labels) for batch in whole] == [8, 8, 8, 8, 4]
    parts = [batches(data, workers, Rank(rank, size)) for rank in range(size)]
    joined = [
        Batch(*(torch.cat(tensors) for tensors in zip(*(p[:3] for p in step), strict=True)), None, step[0].generator)  # type: ignore[call-arg]
        for step in zip(*parts, strict=True)
    ]
    assert len(joined) == (5 if size < 3 else 4)  # a last batch of 4 is too small for three processes
    assert same(whole[: len(joined)], joined)
    assert not same(whole, batches(data, epoch=2))


@pytest.mark.parametrize(("name", "fixed"), [("none", True), ("standard", False)])
def test_without_augmentation_the_pixels_of_an_image_stay(folder: Path, tmp_path: Path, name: str, fixed: bool) -> None:
    made, data, seen = AUGMENTATIONS[name](Recipe(augmentation=name)), load(folder, tmp_path), []
    for epoch in (1, 2):
        epochs = batches(data, epoch=epoch, augmentation=made)
        order = torch.cat([batch.indices for batch in epochs]).argsort()
        seen.append(torch.cat([batch.images for batch in epochs])[order])
    assert torch.equal(*seen) == fixed


def test_processes_that_share_a_batch_draw_for_their_own_rows(folder: Path, tmp_path: Path) -> None:
    """Their squares lie in different places; what a method draws afterwards is the same in both."""
    data, squares, generators = load(folder, tmp_path), [], []
    for rank in (Rank(0, 2), Rank(1, 2)):
        cut, whole = (
            batches(data, rank=rank, augmentation=AUGMENTATIONS[name](Recipe(augmentation=name)))[0]
            for name in ("cutout", "standard")
        )
        squares.append((cut.images != whole.images).any(1))
        generators.append(cut.generator)
    assert not torch.equal(*squares)
    assert torch.equal(*(torch.rand(3, generator=generator) for generator in generators))


def test_an_epoch_is_entered_without_decoding_what_was_seen(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = load(folder, tmp_path)
    whole, opened = batches(data), []
    open_image = decoding.Images.open
    monkeypatch.setattr(decoding.Images, "open", lambda self, n: opened.append(n) or open_image(self, n))
    late = batches(data, start=3)
    assert same(whole[3:], late)
    assert len(opened) == 8 + 4


def test_rotations_are_made_of_one_crop(folder: Path, tmp_path: Path) -> None:
    data = load(folder, tmp_path)
    for plain, batch in zip(batches(data), batches(data, views=Rotations()), strict=True):
        views = batch.images.unflatten(0, (-1, 4))
        for turn in range(4):
            assert torch.equal(views[:, turn], plain.images.rot90(turn, (2, 3)))
        assert batch.view_labels is not None
        assert batch.view_labels.tolist() == [0, 1, 2, 3] * len(batch.labels)


def test_normalised_and_in_channels_last(folder: Path, tmp_path: Path) -> None:
    data = load(folder, tmp_path)
    images, labels = next(data.test_batches(500, LoaderConfig(CPU, workers=0)))
    assert images.is_contiguous(memory_format=torch.channels_last)
    assert labels.tolist() == data.test_labels.tolist()
    middle = decoding.ResizeCenterCrop(37, 32)(data.test.open(0))  # round(32 * 256 / 224)
    wanted = (middle / 255 - torch.tensor(data.mean)[:, None, None]) / torch.tensor(data.std)[:, None, None]
    torch.testing.assert_close(images[0], wanted)


def test_few_shot_and_noise_are_the_splits_own(folder: Path, tmp_path: Path) -> None:
    data = load(folder, tmp_path)
    spec = SplitSpec(fraction=0.5, noise=0.4)
    split = make_split(data.train_labels, 3, spec)
    seen = batches(data, split=spec)
    indices = torch.cat([batch.indices for batch in seen])
    assert sorted(indices.tolist()) == list(range(18))
    assert torch.equal(torch.cat([batch.labels for batch in seen]), split.labels[indices])
    assert (split.labels != data.train_labels[split.indices]).sum() == 7


# --- corrupt images ---------------------------------------------------------------------------------------------------


@pytest.fixture
def damaged(tmp_path: Path) -> tuple[Path, Path]:
    folder = make_imagenet(tmp_path / "damaged", classes=2, per_class=6, val_per_class=2)
    return folder, truncate(folder / "train" / "n00000001" / "n00000001_3.JPEG")


@pytest.mark.parametrize("workers", [0, 2])
def test_a_corrupt_image_gives_its_path(damaged: tuple[Path, Path], tmp_path: Path, workers: int) -> None:
    data = load(damaged[0], tmp_path)
    with pytest.raises(UserError, match=f"{damaged[1]} cannot be read.*dataset.corrupt=skip") as error:
        batches(data, workers)
    assert "\n" not in str(error.value)


def test_a_corrupt_image_is_replaced_and_counted(damaged: tuple[Path, Path], tmp_path: Path) -> None:
    data = load(damaged[0], tmp_path, corrupt="skip")
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        alone, many = batches(data), batches(data, 2)
    assert len([line for line in said if str(damaged[1]) in str(line.message)]) == 2  # once for each loader
    assert same(alone, many)
    indices = torch.cat([batch.indices for batch in alone]).tolist()
    number = [data.train.path(n) for n in range(12)].index(damaged[1])
    assert sorted(indices) == sorted([*(n for n in range(12) if n != number), number + 1])


def test_a_split_without_a_readable_image_ends(damaged: tuple[Path, Path], tmp_path: Path) -> None:
    for file in damaged[0].glob("train/*/*"):
        file.write_bytes(b"no image")
    data = load(damaged[0], tmp_path, corrupt="skip")
    with pytest.raises(UserError, match="no image of the split"):
        batches(data)


# --- the cache --------------------------------------------------------------------------------------------------------


def test_the_cache_holds_what_decoding_gives(folder: Path, tmp_path: Path) -> None:
    plain, data = load(folder, tmp_path), load(folder, tmp_path, cache_size=40)
    for number in (0, 1, 20):  # grey, CMYK, RGB
        wanted = decoding.ResizeCenterCrop(40, 40)(plain.train.open(number))
        assert torch.equal(data.train.open(number), wanted)
    plain_images, cached_images = (
        torch.cat([x for x, _ in d.test_batches(5, LoaderConfig(CPU, workers=0))]) for d in (plain, data)
    )
    assert torch.equal(plain_images, cached_images)
    assert same(batches(data), batches(data, 2))
    built = {file: file.stat().st_mtime_ns for file in (tmp_path / "cache").glob("*.npy")}
    load_dataset.cache_clear()
    load(folder, tmp_path, cache_size=40)
    assert built == {file: file.stat().st_mtime_ns for file in (tmp_path / "cache").glob("*.npy")}


def test_the_cache_and_corrupt_images(damaged: tuple[Path, Path], tmp_path: Path) -> None:
    with pytest.raises(UserError, match=str(damaged[1])):
        load(damaged[0], tmp_path, cache_size=40)
    assert not list((tmp_path / "cache").glob("*train*"))
    with pytest.warns(UserWarning, match=str(damaged[1])):
        cached = batches(load(damaged[0], tmp_path, cache_size=40, corrupt="skip"))
    assert len(cached) == 2
    with pytest.raises(UserError, match=str(damaged[1])):  # the cache of the lenient does not let the strict pass
        load(damaged[0], tmp_path, cache_size=40)


def test_the_listing_is_kept_and_made_anew(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = make_imagenet(tmp_path / "images", classes=2, per_class=3, val_per_class=2)
    load(folder, tmp_path)
    load_dataset.cache_clear()
    scanned: list[str] = []
    scandir = os.scandir
    monkeypatch.setattr(os, "scandir", lambda path: scanned.append(str(path)) or scandir(path))
    assert len(load(folder, tmp_path).train) == 6
    assert not [path for path in scanned if "n0000" in path]
    (folder / "train" / "n00000000" / "n00000000_0.JPEG").unlink()
    load_dataset.cache_clear()
    assert len(load(folder, tmp_path).train) == 5


# --- worker processes -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("free", "fits"), [(64 * 2**20, True), (100_000, False), (0, False)])
def test_shared_memory_is_compared_beforehand(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, free: int, fits: bool
) -> None:
    """Two workers with four batches each of 8 x 3 x 32 x 32 bytes, and the one in use: 221 kB."""
    monkeypatch.setattr(shutil, "disk_usage", lambda path: SimpleNamespace(free=free))
    data = load(folder, tmp_path)
    assert batches(data)  # without workers none is needed
    if fits:
        assert batches(data, workers=2)
    else:
        wanted = max(0, (free // 24_576 - 1) // 4)
        with pytest.raises(UserError, match=rf"/dev/shm has .* set execution\.workers={wanted}, or .*--shm-size"):
            batches(data, workers=2)


@pytest.mark.parametrize("end", ["hangs", "killed"])
def test_workers_that_give_nothing_end_the_run(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, end: str
) -> None:
    def open_image(self: decoding.Images, number: int) -> torch.Tensor:
        if end == "killed":
            os.kill(os.getpid(), signal.SIGBUS)
        time.sleep(2)
        return torch.zeros(3, 40, 40, dtype=torch.uint8)

    monkeypatch.setattr(decoding.Images, "open", open_image)
    monkeypatch.setattr(file_loader, "LONGEST_WAIT", 1.0)
    with pytest.raises(UserError, match=r"no batch .*execution\.workers") as error:
        batches(load(folder, tmp_path), workers=1)
    assert "\n" not in str(error.value)


def test_keys_that_mean_nothing_in_memory(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"dataset\.crop_size .* 'digits'"):
        load_dataset(DatasetSpec(name="digits", crop_size=64), tmp_path)
    with pytest.raises(UserError, match="corrupt"):
        from_dict(DatasetSpec, {"name": "imagenet", "corrupt": "ignore"}, "here")
