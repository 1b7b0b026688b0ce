"""Data sets: the embedded one, files and folders of the user's, and what is said when they are wrong or absent."""

import zipfile
from itertools import product
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from sskd.config.recipe import DatasetSpec
from sskd.data.datasets import small as sources
from sskd.data.datasets.registry import DATASETS, ImageData, load_dataset
from sskd.data.datasets.small import NPZ_KEYS
from sskd.errors import UserError

RNG = np.random.RandomState(0)


def arrays(count: int = 6, size: int = 8, channels: tuple[int, ...] = (3,)) -> dict[str, np.ndarray]:
    return {
        "train_images": RNG.randint(0, 256, (count, size, size, *channels)).astype(np.uint8),
        "train_labels": np.arange(count) % 3,
        "test_images": RNG.randint(0, 256, (3, size, size, *channels)).astype(np.uint8),
        "test_labels": np.arange(3),
    }


def npz(tmp_path: Path, **changed: np.ndarray) -> DatasetSpec:
    path = tmp_path / "data.npz"
    np.savez(path, **(arrays() | changed))
    load_dataset.cache_clear()
    return DatasetSpec(name="npz", path=str(path))


def test_npz_round_trip(tmp_path: Path) -> None:
    content = arrays()
    data = load_dataset(npz(tmp_path, **content), tmp_path)
    assert torch.equal(data.train_images, torch.from_numpy(content["train_images"]).permute(0, 3, 1, 2))
    assert data.train_labels.tolist() == [0, 1, 2, 0, 1, 2]
    floats = data.train_images.double() / 255
    torch.testing.assert_close(torch.tensor(data.mean).double(), floats.mean((0, 2, 3)), check_dtype=False)
    torch.testing.assert_close(torch.tensor(data.std).double(), floats.std((0, 2, 3), correction=0), rtol=1e-6, atol=0)


@pytest.mark.parametrize(
    ("channels", "names", "read"),
    [
        ((), [b"cat", b"d\xc3\xb6g", b"eel"], ("cat", "dög", "eel")),
        ((1,), ["cat", "dög", "eel"], ("cat", "dög", "eel")),
        ((1,), [1, 2, 3], ("1", "2", "3")),
    ],
)
def test_grey_images_columns_of_labels_and_names_of_any_type(
    tmp_path: Path, channels: tuple[int, ...], names: list[object], read: tuple[str, ...]
) -> None:
    content = arrays(channels=channels)
    content["train_labels"] = content["train_labels"][:, None]
    data = load_dataset(npz(tmp_path, **content, class_names=np.array(names)), tmp_path)
    assert data.train_images.shape == (6, 3, 8, 8)
    assert torch.equal(data.train_images[:, 0], data.train_images[:, 1])
    assert data.class_names == read


def test_damaged_and_missing_npz(tmp_path: Path) -> None:
    spec = npz(tmp_path)
    path = Path(spec.path or "")
    path.write_bytes(path.read_bytes()[:300])
    with pytest.raises(UserError, match=r"data\.npz is damaged"):
        load_dataset(spec, tmp_path)
    np.savez(path, train_images=np.zeros(3))
    with pytest.raises(UserError, match="has no train_labels, test_images, test_labels"):
        load_dataset(spec, tmp_path)
    with pytest.raises(UserError, match="there is no"):
        load_dataset(DatasetSpec(name="npz", path=str(tmp_path / "no.npz")), tmp_path)
    with pytest.raises(UserError, match=r"needs dataset\.path"):
        load_dataset(DatasetSpec(name="npz"), tmp_path)


def npz_of(path: Path, header: bytes, content: bytes = b"") -> None:
    """An .npz whose arrays all have this header."""
    npy = b"\x93NUMPY\x01\x00" + len(header).to_bytes(2, "little") + header + content
    with zipfile.ZipFile(path, "w") as archive:
        for key in NPZ_KEYS:
            archive.writestr(f"{key}.npy", npy)


COUNTED_FROM_1 = {"train_labels": np.arange(6) % 3 + 1, "test_labels": np.arange(3) + 1}
STRANGE: list[tuple[dict[str, np.ndarray], str]] = [
    ({"train_labels": np.array([0, 1, 2, 0, 1, 10**9])}, "a label is 1000000000, but there are only 9 images"),
    ({"train_labels": np.array([0, 1, 2, 0, 1, 2**64 - 1], np.uint64)}, "label 18446744073709551615"),
    ({"train_labels": np.array([0, 1, 2, -1, 0, 1])}, "label -1 of image 3 is out of range"),
    ({"train_labels": np.array([{}] * 6, dtype=object)}, "train_labels|damaged"),
    ({"train_images": np.zeros((6, 0, 0, 3), np.uint8)}, "expected square images"),
    ({"train_images": np.zeros((6, 8, 9, 3), np.uint8)}, "expected square images"),
    ({"train_images": np.zeros((6, 8, 8, 4), np.uint8)}, "expected square images"),
    ({"train_images": np.array(1, np.uint8)}, "expected square images"),
    ({"train_images": np.zeros((6, 8, 8, 3), np.float32)}, "expected uint8"),
    ({"train_images": np.zeros(6, [("a", np.uint8)])}, "expected uint8"),
    ({"test_images": np.zeros((3, 9, 9, 3), np.uint8)}, r"training images are \(3, 8, 8\), test images"),
    ({"test_labels": np.zeros(0, np.int64), "test_images": np.zeros((0, 8, 8, 3), np.uint8)}, "expected square"),
    ({"class_names": np.array(3)}, "label 1 of image 1 is out of range; there are 1 classes"),
    ({"class_names": np.array(["a", "b", "a"])}, "'a' twice"),
    ({"class_names": np.array([[["a"]], [["b"]]])}, "there are 2 classes"),
    (COUNTED_FROM_1, "labels are 1 to 3, expected 0 to 2"),
    (COUNTED_FROM_1 | {"class_names": np.array(list("abc"))}, "labels are 1 to 3, expected 0 to 2"),
    ({"train_labels": np.array([0, 2, 0, 2, 0, 2])}, "no training image has the label 1"),
    *(
        ({"train_labels": labels}, "expected 6 integers")
        for labels in (np.arange(5), np.array(3), np.array(["a"] * 6), np.array([True] * 6), np.full(6, np.nan))
    ),
]


@pytest.mark.parametrize(("changed", "message"), STRANGE)
def test_strange_npz(tmp_path: Path, changed: dict[str, np.ndarray], message: str) -> None:
    with pytest.raises(UserError, match=message) as caught:
        load_dataset(npz(tmp_path, **changed), tmp_path)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "header",
    [
        b"{'descr': '|u1', 'fortran_order': False, 'shape': (300000000, 1000, 1000)}\n",  # 300 TB
        b"{'descr': '<i8', 'fortran_order': False, 'shape': (-1,)}\n",
        b"{'descr': '|O', 'fortran_order': False, 'shape': (2,)}\n",
        b"{'descr': '|u1', 'fortran_order': False}\n",
        b"{'descr': 'what', 'fortran_order': False, 'shape': (2,)}\n",
        b"{'descr': '|u1', 'fortran_order': False, 'shape': ('a',)}\n",
        b"__import__('os').abort()\n",
        b"\x00\xff" * 30,
        b"",
    ],
)
def test_headers_are_not_believed(tmp_path: Path, header: bytes) -> None:
    npz_of(tmp_path / "data.npz", header, b"12")
    load_dataset.cache_clear()
    with pytest.raises(UserError, match=r"data\.npz is damaged"):
        load_dataset(DatasetSpec(name="npz", path=str(tmp_path / "data.npz")), tmp_path)


def test_files_that_are_no_npz(tmp_path: Path) -> None:
    path = tmp_path / "data.npz"
    np.savez_compressed(path, **arrays(count=60))
    whole, random = path.read_bytes(), np.random.RandomState(0)
    (tmp_path / "a.npy").touch()
    np.save(tmp_path / "a.npy", np.zeros(3))
    files = [b"", b"PK", b"\x00" * 100, (tmp_path / "a.npy").read_bytes(), whole[:-30], whole[30:], whole * 2]
    for _ in range(40):
        damaged = bytearray(whole)
        for place in random.randint(0, len(whole), 20):
            damaged[place] = random.randint(256)
        files.append(bytes(damaged))
    refused = []
    for content in files:
        path.write_bytes(content)
        load_dataset.cache_clear()
        try:
            load_dataset(DatasetSpec(name="npz", path=str(path)), tmp_path)
        except UserError as error:
            refused.append(str(error))
    assert len(refused) > 30
    assert not any("\n" in line for line in refused)


def test_cifar100_from_npz_with_published_statistics(tmp_path: Path) -> None:
    np.savez(tmp_path / "cifar100.npz", **arrays(size=32), class_names=np.array([f"c{i}" for i in range(100)]))
    load_dataset.cache_clear()
    data = load_dataset(DatasetSpec(name="cifar100"), tmp_path)
    assert data.num_classes == 100
    assert data.mean == (0.5071, 0.4866, 0.4409)


def test_folder(tmp_path: Path) -> None:
    spec = DatasetSpec(name="folder", path=str(tmp_path))
    with pytest.raises(UserError, match="no folder .*train"):
        load_dataset(spec, tmp_path)
    for size, wanted in (((12, 12), 12), ((40, 64), 32)):
        for part, label in product(("train", "test"), ("cat", "dog")):
            (tmp_path / part / label).mkdir(parents=True, exist_ok=True)
            for number, (width, height) in enumerate(((12, 12), size)):
                pixel = RNG.randint(0, 256, (height, width, 3)).astype(np.uint8)
                Image.fromarray(pixel).save(tmp_path / part / label / f"{number}.png")
        load_dataset.cache_clear()
        data = load_dataset(spec, tmp_path)
        assert data.train_images.shape == (4, 3, wanted, wanted)
        assert data.class_names == ("cat", "dog")
        assert data.train_labels.tolist() == [0, 0, 1, 1]


@pytest.mark.parametrize(
    ("name", "file"),
    [
        ("cifar100", "cifar-100-python/train"),
        ("cifar100", "cifar-100-python/meta"),
        ("cifar10", "cifar-10-batches-py/data_batch_3"),
        ("svhn", "test_32x32.mat"),
        ("fashion-mnist", "FashionMNIST/raw/train-images-idx3-ubyte.gz"),
    ],
)
def test_files_that_are_not_torchvisions_are_found_and_kept(tmp_path: Path, name: str, file: str) -> None:
    """No download is tried, which would overwrite them."""
    (tmp_path / file).parent.mkdir(parents=True, exist_ok=True)
    (tmp_path / file).write_bytes(b"of another source")
    load_dataset.cache_clear()
    with pytest.raises(UserError, match=f"{file} is not torchvision's file") as error:
        load_dataset(DatasetSpec(name=name), tmp_path)
    assert "downloaded" not in str(error.value).partition("): ")[0]
    assert (tmp_path / file).read_bytes() == b"of another source"


def test_absent_and_unknown(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import torchvision

    def unreachable(*_: object, **__: object) -> None:
        raise RuntimeError("no route to host")

    monkeypatch.setattr(torchvision.datasets.SVHN, "download", unreachable)
    load_dataset.cache_clear()
    with pytest.raises(
        UserError, match=f"svhn can neither be read from {tmp_path} nor be downloaded .no route to host.*--dataset-root"
    ):
        load_dataset(DatasetSpec(name="svhn"), tmp_path)
    with pytest.raises(UserError, match=r"wnids\.txt: unpack tiny-imagenet-200\.zip"):
        load_dataset(DatasetSpec(name="tiny-imagenet"), tmp_path)
    with pytest.raises(UserError, match="unknown dataset 'cifar1000'; did you mean 'cifar100'?"):
        DATASETS["cifar1000"]


def test_tiny_imagenet_layout(tmp_path: Path) -> None:
    base = tmp_path / "tiny-imagenet-200"
    (base / "val" / "images").mkdir(parents=True)
    (base / "wnids.txt").write_text("n2\nn1\n")
    lines = []
    for number, name in enumerate(("n1", "n2")):
        (base / "train" / name / "images").mkdir(parents=True)
        Image.new("RGB", (64, 64), (number * 100,) * 3).save(base / "train" / name / "images" / "x.JPEG")
        Image.new("L", (64, 64), number * 100).save(base / "val" / "images" / f"v{number}.JPEG")
        lines.append(f"v{number}.JPEG\t{name}\t0\t0\t9\t9")
    (base / "val" / "val_annotations.txt").write_text("\n".join(lines))
    load_dataset.cache_clear()
    data = load_dataset(DatasetSpec(name="tiny-imagenet"), tmp_path)
    assert data.train_labels.tolist() == data.test_labels.tolist() == [0, 1]
    assert data.image_size == 64


def test_digits_are_scikit_learns_in_two_sizes() -> None:
    from sklearn.datasets import load_digits

    bunch = load_digits()
    assert np.array_equal(sources._digits_table(), np.column_stack([bunch.data, bunch.target]))
    large, small = (load_dataset(DatasetSpec(name=name), Path("data")) for name in ("digits", "digits16"))
    assert isinstance(large, ImageData)
    assert isinstance(small, ImageData)
    assert large.train_images.shape == (1433, 3, 32, 32)
    assert small.train_images.shape == (1433, 3, 16, 16)
    assert torch.equal(large.test_labels, small.test_labels)
    halved = torch.nn.functional.avg_pool2d(large.test_images.float(), 2)
    assert (halved - small.test_images.float()).abs().mean() < 3  # the same pictures
