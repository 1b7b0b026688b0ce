"""Data sets from scikit-learn, .npz files and image folders."""

import os
from collections.abc import Iterable
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path

import numpy as np
from PIL import Image

from sskd.data.class_folders import check_classes, images_by_class
from sskd.data.datasets.registry import (
    DATASETS,
    PUBLISHED_DATASETS,
    DatasetInfo,
    ImageData,
    PublishedDataset,
    from_arrays,
)
from sskd.data.image_files import DAMAGED, open_rgb
from sskd.data.memory_loader import RGB
from sskd.errors import UserError

PUBLISHED_DATASETS["tiny-imagenet"] = PublishedDataset(
    DatasetInfo(100_000, 200, 64, None, 10_000), "tiny-imagenet-200", "tiny-imagenet-200"
)
NPZ_KEYS = ("train_images", "train_labels", "test_images", "test_labels")
IMAGE_ENDINGS = {".png", ".jpg", ".jpeg", ".jfif", ".bmp", ".gif", ".webp", ".tif", ".tiff", ".ppm", ".pgm"}


@DATASETS.register("digits")
def digits(root: Path, path: str | None) -> ImageData:
    """scikit-learn's 1,797 handwritten digits (UCI, 8 x 8, 17 grey levels); part of the package, no download.

    The images are enlarged to 32 x 32 (bicubic). Every fifth image of a class, in the package's order, is a test image;
    1,433 are training images.
    """
    return _digits("digits", 32)


@DATASETS.register("digits16")
def digits16(root: Path, path: str | None) -> ImageData:
    """The images of ``digits``, enlarged to 16 x 16 only: a quarter of the computation."""
    return _digits("digits16", 16)


@DATASETS.register("digits16-turned")
def digits16_turned(root: Path, path: str | None) -> ImageData:
    """The images of ``digits16``, rotated by 90 degrees, for probes of networks that were trained on digits16."""
    upright = _digits("digits16-turned", 16)
    images = (upright.train_images.rot90(1, (2, 3)), upright.test_images.rot90(1, (2, 3)))
    return replace(upright, train_images=images[0].contiguous(), test_images=images[1].contiguous())


def _digits(name: str, size: int) -> ImageData:
    table = _digits_table()
    grey = np.rint(table[:, :-1].reshape(-1, 8, 8) * (255 / 16)).astype(np.uint8)
    labels = table[:, -1].astype(np.int64)
    enlarged = [Image.fromarray(image).resize((size, size), Image.Resampling.BICUBIC) for image in grey]
    images = np.stack([np.asarray(image) for image in enlarged])
    test = np.zeros(len(images), dtype=bool)
    for label in range(10):
        test[np.flatnonzero(labels == label)[::5]] = True
    return from_arrays(name, (images[~test], labels[~test]), (images[test], labels[test]))


def _digits_table() -> np.ndarray:
    """Returns (1797, 65) float64: 64 pixels, 0 to 16, and the label.

    The file is read from scikit-learn's folder, because importing scikit-learn takes a second in every process of a
    run.
    """
    package = find_spec("sklearn")
    assert package is not None
    assert package.origin is not None
    return np.loadtxt(Path(package.origin).parent / "datasets" / "data" / "digits.csv.gz", delimiter=",")


@DATASETS.register("npz")
def npz(root: Path, path: str | None) -> ImageData:
    """Reads a MedMNIST-style file: train_images, train_labels, test_images, test_labels, and optionally class_names."""
    return from_npz(_needed("npz", path), "npz")


@DATASETS.register("folder")
def folder(root: Path, path: str | None) -> ImageData:
    """Reads train/<class>/<image> and test/<class>/<image>. If all images are square and of one size they are not
    changed; otherwise the shorter side is resized to 32 pixels and the centre is cropped."""
    base = _needed("folder", path)
    classes = check_classes(base / "train", base / "test", IMAGE_ENDINGS)
    files, labels = zip(
        *(images_by_class(base / part, classes, IMAGE_ENDINGS) for part in ("train", "test")), strict=True
    )
    paths = [[base / part / file for file in names] for part, names in zip(("train", "test"), files, strict=True)]
    sizes = {_open(path).size for part in paths for path in part}
    width, height = next(iter(sizes))
    images = [_squares(part, width if len(sizes) == 1 and width == height else 32) for part in paths]
    return from_arrays(base.name, *zip(images, labels, strict=True), class_names=classes)


@DATASETS.register("tiny-imagenet")
def tiny_imagenet(root: Path, path: str | None) -> ImageData:
    """Reads the unpacked archive tiny-imagenet-200: 200 classes, 64 x 64; the test set is its validation set."""
    base = Path(path) if path else root / "tiny-imagenet-200"
    if not (base / "wnids.txt").is_file():
        raise UserError(
            f"tiny-imagenet: there is no {base / 'wnids.txt'}: "
            f"unpack tiny-imagenet-200.zip (cs231n.stanford.edu) into {base.parent}"
        )
    classes = tuple(sorted((base / "wnids.txt").read_text(encoding="utf-8").split()))
    train = {
        file: label
        for label, name in enumerate(classes)
        for file in sorted((base / "train" / name / "images").glob("[!.]*"))
    }
    lines = (base / "val" / "val_annotations.txt").read_text(encoding="utf-8").splitlines()
    named = (line.split("\t")[:2] for line in lines)
    test = {base / "val" / "images" / name: classes.index(label) for name, label in named}
    parts = [(_squares(part, 64), np.array(list(part.values()))) for part in (train, test)]
    return from_arrays("tiny-imagenet", *parts, class_names=classes)


def from_npz(file: Path, name: str, statistics: tuple[RGB, RGB] | None = None) -> ImageData:
    """Reads a MedMNIST-style .npz. Executes nothing from the file."""
    if not os.path.isfile(file):
        raise UserError(f"there is no file {file}")
    try:
        with np.load(file, allow_pickle=False) as archive:
            missing = [key for key in NPZ_KEYS if key not in archive]
            if missing:
                raise UserError(f"{file} has no {', '.join(missing)}; it has {', '.join(archive) or 'nothing'}")
            train, test = [(archive[f"{part}_images"], archive[f"{part}_labels"]) for part in ("train", "test")]
            names = _texts(archive["class_names"]) if "class_names" in archive else None
    except UserError:
        raise
    except Exception as error:  # a damaged archive may raise anything, including MemoryError
        raise UserError(f"{file} is damaged or not an .npz of plain arrays: {error or type(error).__name__}") from None
    return from_arrays(name if name != "npz" else file.stem, train, test, class_names=names, statistics=statistics)


def _texts(array: np.ndarray) -> tuple[str, ...]:
    """Converts class names from text, bytes (UTF-8) or numbers. Raises ValueError for a duplicate."""
    names = tuple(n.decode() if isinstance(n, bytes) else str(n) for n in array.reshape(-1).tolist())
    twice = next((name for index, name in enumerate(names) if name in names[:index]), None)
    if twice is not None:
        raise ValueError(f"class_names contains '{twice}' twice")
    return names


def _needed(kind: str, path: str | None) -> Path:
    if path is None:
        raise UserError(f"the dataset '{kind}' needs dataset.path, the file or folder of the data")
    if not os.path.exists(path):
        raise UserError(f"dataset.path: there is no {path}")
    return Path(path)


def _open(file: Path) -> Image.Image:
    try:
        return open_rgb(file)
    except DAMAGED as error:
        raise UserError(f"{file} cannot be read as an image: {error}") from None


def _squares(files: Iterable[Path], size: int) -> np.ndarray:
    """Returns (N, size, size, 3): the shorter side of each image is resized to ``size``, and the centre is cropped."""
    return np.stack([_square(_open(file), size) for file in files])


def _square(image: Image.Image, size: int) -> np.ndarray:
    if image.size != (size, size):
        scale = size / min(image.size)
        image = image.resize((max(size, round(image.width * scale)), max(size, round(image.height * scale))))
        left, top = (image.width - size) // 2, (image.height - size) // 2
        image = image.crop((left, top, left + size, top + size))
    return np.asarray(image)
