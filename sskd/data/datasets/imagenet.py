"""ImageNet from its usual folders: train/<class>/*.JPEG and val/<class>/*.JPEG."""

import hashlib
import os
import zipfile
from pathlib import Path

import numpy as np
import torch

from sskd.data.class_folders import check_classes, class_names, images_by_class
from sskd.data.datasets.registry import DATASETS, PUBLISHED_DATASETS, DatasetInfo, PublishedDataset
from sskd.data.file_dataset import ImageFiles
from sskd.data.image_files import Images
from sskd.errors import UserError

STATISTICS = ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))  # torchvision's
ENDINGS = (".jpeg", ".jpg", ".png")
PUBLISHED_DATASETS["imagenet"] = PublishedDataset(DatasetInfo(1_281_167, 1000, 0, None, 50_000), "imagenet", "imagenet")


@DATASETS.register("imagenet")
def imagenet(root: Path, path: str | None) -> ImageFiles:
    """Reads dataset.path, or <root>/imagenet. The list of files is cached in <root>/cache, and made again if a class
    folder changes."""
    folder = Path(path) if path else root / "imagenet"
    cache = root / "cache"
    _refuse_flat(folder / "val")
    classes = check_classes(folder / "train", folder / "val", ENDINGS)
    train, train_labels = listed(folder / "train", classes, cache)
    test, test_labels = listed(folder / "val", classes, cache)
    labels = torch.from_numpy(train_labels), torch.from_numpy(test_labels)
    return ImageFiles("imagenet", train, labels[0], test, labels[1], *STATISTICS, classes, cache)


def _refuse_flat(folder: Path) -> None:
    if not class_names(folder) and any(entry.name.lower().endswith(ENDINGS) for entry in os.scandir(folder)):
        raise UserError(
            f"{folder} is the flat validation set, without class folders. Sort its images "
            f"with: python -m sskd.data.sort_val {folder} --devkit ILSVRC2012_devkit_t12"
        )


def listed(folder: Path, classes: tuple[str, ...], cache: Path) -> tuple[Images, np.ndarray]:
    """Returns the images of all class folders, sorted by class and name, and their labels (N,) int64. The list is
    read from ``cache`` unless the folders' modification times have changed: listing 1.28 million files takes minutes
    on a network drive."""
    present = [name for name in classes if (folder / name).is_dir()]
    times = np.array([(folder / name).stat().st_mtime_ns for name in present], dtype=np.int64)
    names = np.array([os.fsencode(name) for name in classes])
    file = cache / f"images-{hashlib.sha256(os.fsencode(folder.resolve())).hexdigest()[:12]}.npz"
    try:
        with np.load(file, allow_pickle=False) as known:
            if np.array_equal(known["times"], times) and np.array_equal(known["classes"], names):
                return Images(folder, known["files"]), known["labels"]
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile):
        pass  # missing or damaged: list the folders
    images, labels = images_by_class(folder, classes, ENDINGS)
    files = [os.fsencode(image) for image in images]
    arrays = {"files": np.array(files), "labels": labels, "times": times, "classes": names}
    partial = file.with_name(f"{file.stem}.{os.getpid()}.npz")
    try:
        cache.mkdir(parents=True, exist_ok=True)
        np.savez(partial, allow_pickle=False, **arrays)
        os.replace(partial, file)
    except OSError:
        pass  # a read-only folder: there is no cache
    return Images(folder, arrays["files"]), arrays["labels"]
