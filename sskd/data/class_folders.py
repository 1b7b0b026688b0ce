"""Image folders by class: finds classes and images, and rejects folders that are not laid out as expected."""

import mimetypes
import os
from collections.abc import Collection, Sequence
from pathlib import Path

import numpy as np

from sskd.errors import UserError

# folders that archives, network drives and file systems create; hidden folders are ignored as well
NO_CLASSES = frozenset({"__MACOSX", "@eaDir", "$RECYCLE.BIN", "System Volume Information", "lost+found"})
IMAGE_LIKE = frozenset({".heic", ".heif", ".avif", ".jxl", ".jp2", ".dng", ".dcm", ".gif", ".npy"})  # for mimetypes


def class_names(folder: Path) -> tuple[str, ...]:
    """Returns the names of the class folders in ``folder``, sorted: their order is the order of the labels. Raises
    UserError if the folder is missing."""
    if not folder.is_dir():
        raise UserError(
            f"there is no folder {folder}: expected {folder.name}/<class>/<image> in the folder that dataset.path names"
        )
    return tuple(sorted(entry.name for entry in os.scandir(folder) if entry.is_dir() and _counts(entry.name)))


def check_classes(train: Path, test: Path, endings: Collection[str]) -> tuple[str, ...]:
    """Returns the classes of ``train``. Raises UserError if there are none, if ``test`` has other classes, or if
    images are outside the class folders of either."""
    classes = class_names(train)
    for part in (train, test):
        stray = next((e.name for e in os.scandir(part) if _is_image(e.name, endings) and not e.is_dir()), None)
        if stray is not None:
            raise UserError(f"{part / stray} is outside the class folders: move it into the folder of its class")
    if not classes:
        raise UserError(f"{train}: expected one folder per class, found none")
    strange = sorted(set(class_names(test)) - set(classes))
    if strange:
        raise UserError(f"{test}: the class '{strange[0]}' has no folder in {train}")
    return classes


def images_by_class(folder: Path, classes: Sequence[str], endings: Collection[str]) -> tuple[list[str], np.ndarray]:
    """Returns the images of ``folder`` as "class/name", sorted, and their labels (N,) int64.

    Raises UserError if a class has no images, if an image has an unsupported format, or if an image is in a subfolder
    of its class.
    """
    found = [_class_images(folder / name, endings) for name in classes]
    empty = [name for name, images in zip(classes, found, strict=True) if not images]
    if empty:
        more = f", nor do {len(empty) - 1} other classes" if len(empty) > 1 else ""
        raise UserError(
            f"{folder / empty[0]}: the class '{empty[0]}' has no images{more} (looked for {_listed(endings)}); "
            "add some, or remove the class everywhere"
        )
    names = [f"{name}/{image}" for name, images in zip(classes, found, strict=True) for image in images]
    return names, np.repeat(np.arange(len(classes)), [len(images) for images in found])


def _class_images(folder: Path, endings: Collection[str]) -> list[str]:
    names = []
    for entry in os.scandir(folder) if folder.is_dir() else ():
        if not _counts(entry.name):
            continue
        if entry.is_dir():
            if deeper := _first_image(Path(entry.path), endings):
                raise UserError(f"{deeper} is in a subfolder: move it directly into the class folder {folder}")
        elif _ending(entry.name) in endings:
            names.append(entry.name)
        elif _is_image(entry.name, endings):
            raise UserError(f"{entry.path}: this format is not supported; convert it to one of {_listed(endings)}")
    return sorted(names)


def _counts(name: str) -> bool:
    return not name.startswith(".") and name not in NO_CLASSES


def _ending(name: str) -> str:
    return os.path.splitext(name)[1].lower()


def _is_image(name: str, endings: Collection[str]) -> bool:
    if not _counts(name):
        return False
    kind = mimetypes.guess_type(name)[0] or ""
    return _ending(name) in endings or _ending(name) in IMAGE_LIKE or kind.startswith("image/")


def _first_image(folder: Path, endings: Collection[str]) -> Path | None:
    inside = (path.relative_to(folder) for path in sorted(folder.rglob("*")))
    found = (path for path in inside if all(map(_counts, path.parts)) and _is_image(path.name, endings))
    return next((folder / path for path in found), None)


def _listed(endings: Collection[str]) -> str:
    return ", ".join(sorted(endings))
