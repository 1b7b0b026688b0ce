"""Data sets that torchvision downloads."""

from collections.abc import Callable, Iterable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from sskd.data.datasets.registry import (
    DATASETS,
    PUBLISHED_DATASETS,
    DatasetInfo,
    ImageData,
    PublishedDataset,
    from_arrays,
)
from sskd.data.datasets.small import NPZ_KEYS, from_npz
from sskd.data.memory_loader import RGB
from sskd.errors import UserError

CIFAR_STATISTICS: dict[str, tuple[RGB, RGB]] = {
    "cifar10": ((0.4914, 0.4822, 0.4465), (0.2470, 0.2435, 0.2616)),
    "cifar100": ((0.5071, 0.4866, 0.4409), (0.2675, 0.2565, 0.2761)),  # used to train the released networks
}
PUBLISHED_DATASETS |= {
    "cifar10": PublishedDataset(DatasetInfo(50_000, 10, 32, None, 10_000), "cifar10.npz", "cifar-10-batches-py"),
    "cifar100": PublishedDataset(DatasetInfo(50_000, 100, 32, None, 10_000), "cifar100.npz", "cifar-100-python"),
    "fashion-mnist": PublishedDataset(DatasetInfo(60_000, 10, 32, None, 10_000), "fashion-mnist.npz", "FashionMNIST"),
    "svhn": PublishedDataset(DatasetInfo(73_257, 10, 32, None, 26_032), "svhn.npz", "train_32x32.mat"),
    "stl10": PublishedDataset(DatasetInfo(5_000, 10, 96, None, 8_000), "stl10.npz", "stl10_binary"),
}


OpenPart = Callable[[Path, bool, bool], tuple[Any, Any]]  # from root, train, download to images and labels
Files = Iterable[tuple[Path, str | None]]  # relative paths with torchvision's MD5; None: not checked


def _from_torchvision(name: str, root: Path, open_part: OpenPart, files: Files, **more: Any) -> ImageData:
    """Reads <root>/<name>.npz if it exists, else torchvision's files: missing ones are downloaded, all are checked
    against torchvision's checksums. A file with another content raises UserError and is never overwritten."""
    if (root / f"{name}.npz").exists():
        return from_npz(root / f"{name}.npz", name, more.get("statistics"))
    parts = [_here_or_downloaded(name, root, train, open_part, files) for train in (True, False)]
    train, test = ((np.asarray(images), np.asarray(labels)) for images, labels in parts)
    return from_arrays(name, train, test, **more)


def _here_or_downloaded(name: str, root: Path, train: bool, open_part: OpenPart, files: Files) -> tuple[Any, Any]:
    from torchvision.datasets.utils import check_integrity

    try:
        return open_part(root, train, False)
    except Exception:  # missing, or another file, which a download would overwrite
        other = [
            root / file for file, md5 in files if (root / file).is_file() and not check_integrity(root / file, md5)
        ]
    own = f"a {name}.npz (keys {', '.join(NPZ_KEYS)})"
    if other:
        raise UserError(
            f"{name}: {other[0].resolve()} is not torchvision's file (its MD5 differs): replace it by the original, "
            f"delete it (it is then downloaded), or make {own} of it"
        )
    try:
        return open_part(root, train, True)
    except Exception as error:  # from the network, the disk or a damaged file
        reason = " ".join(str(error).split())[:150]
        raise UserError(
            f"{name} can neither be read from {root.resolve()} nor be downloaded ({reason}): put torchvision's files "
            f"or {own} there, or name another folder with --dataset-root"
        ) from None


def _cifar(name: str, kind: str) -> Callable[[Path, str | None], ImageData]:
    def load(root: Path, path: str | None) -> ImageData:
        import torchvision

        source: Any = getattr(torchvision.datasets, kind)
        classes: list[str] = []

        def part(root: Path, train: bool, download: bool) -> tuple[Any, Any]:
            data = source(root, train, download=download)
            classes[:] = data.classes
            return data.data, data.targets

        listed = [*source.train_list, *source.test_list, (source.meta["filename"], source.meta["md5"])]
        files = [(Path(source.base_folder, file), known) for file, known in listed]
        data = _from_torchvision(name, root, part, files, statistics=CIFAR_STATISTICS[name])
        return replace(data, class_names=tuple(classes) or data.class_names)

    return load


DATASETS.register("cifar10")(_cifar("cifar10", "CIFAR10"))
DATASETS.register("cifar100")(_cifar("cifar100", "CIFAR100"))


@DATASETS.register("fashion-mnist")
def fashion_mnist(root: Path, path: str | None) -> ImageData:
    """28 x 28 grey images, padded with two black pixels on each side to 32 x 32."""
    import torchvision

    def part(root: Path, train: bool, download: bool) -> tuple[Any, Any]:
        data = torchvision.datasets.FashionMNIST(root, train, download=download)
        return np.pad(data.data.numpy(), ((0, 0), (2, 2), (2, 2))), data.targets.numpy()

    files = [(Path("FashionMNIST", "raw", file), known) for file, known in torchvision.datasets.FashionMNIST.resources]
    return _from_torchvision("fashion-mnist", root, part, files)


@DATASETS.register("svhn")
def svhn(root: Path, path: str | None) -> ImageData:
    """Street-view house numbers, 32 x 32."""
    import torchvision

    def part(root: Path, train: bool, download: bool) -> tuple[Any, Any]:
        data = torchvision.datasets.SVHN(root, "train" if train else "test", download=download)
        return data.data.transpose(0, 2, 3, 1), data.labels

    lists = [torchvision.datasets.SVHN.split_list[part] for part in ("train", "test")]
    return _from_torchvision("svhn", root, part, [(Path(file), known) for _, file, known in lists])


@DATASETS.register("stl10")
def stl10(root: Path, path: str | None) -> ImageData:
    """The 5,000 and 8,000 labelled images, 96 x 96: from <root>/stl10_binary (the unpacked archive; the 100,000
    unlabelled images are not needed), else through torchvision."""
    import torchvision

    def part(root: Path, train: bool, download: bool) -> tuple[Any, Any]:
        if (root / "stl10_binary").is_dir():
            return _stl10_binary(root / "stl10_binary", train)
        data = torchvision.datasets.STL10(root, "train" if train else "test", download=download)
        return data.data.transpose(0, 2, 3, 1), data.labels

    return _from_torchvision("stl10", root, part, [])


def _stl10_binary(folder: Path, train: bool) -> tuple[np.ndarray, np.ndarray]:
    """Returns images (N, 96, 96, 3) uint8 and labels (N,) from 0. In the files, images are stored by channel and
    column, and classes count from 1."""
    part = "train" if train else "test"
    pixels, labels = (np.fromfile(folder / f"{part}_{kind}.bin", dtype=np.uint8) for kind in ("X", "y"))
    return pixels.reshape(-1, 3, 96, 96).transpose(0, 3, 2, 1), labels.astype(np.int64) - 1
