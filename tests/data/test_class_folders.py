"""Image folders as people's disks hold them: what is no class and no image, and what is refused by name."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from sskd.config.recipe import DatasetSpec
from sskd.data.datasets.registry import ImageData, load_dataset
from sskd.errors import UserError
from tests.imagenet_folder import make_imagenet

WHITE = np.full((8, 8), 65535, np.uint16)


def picture(value: int = 90) -> Image.Image:
    return Image.fromarray(np.full((8, 8, 3), value, np.uint8))


def moving(path: Path) -> None:
    picture(0).save(path, save_all=True, append_images=[picture(200)])


def put(path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.suffix in (".png", ".JPEG"):
        picture().save(path)
    elif path.suffix or path.name.startswith("."):
        path.write_bytes(b"\0\5\x16\7AppleDouble")
    else:
        path.mkdir(exist_ok=True)


@pytest.fixture
def base(tmp_path: Path) -> Path:
    for part in ("train", "test"):
        for label in ("cat", "dog"):
            put(tmp_path / part / label / "0.png")
    return tmp_path


def load(base: Path) -> ImageData:
    load_dataset.cache_clear()
    data = load_dataset(DatasetSpec(name="folder", path=str(base)), base)
    assert isinstance(data, ImageData)
    return data


@pytest.mark.parametrize(
    "made",
    [
        "train/.ipynb_checkpoints/0-checkpoint.png",
        "__MACOSX/train/cat/0.png",
        "train/@eaDir/0.png",
        "train/cat/.ipynb_checkpoints/0.png",
        "train/cat/__MACOSX/0.png",
        "train/cat/notes",
        "train/cat/._0.png",
        "train/._x.png",
        "test/dog/.DS_Store",
        "train/dog/Thumbs.db",
    ],
)
def test_what_is_no_class_and_no_image(base: Path, made: str) -> None:
    put(base / made)
    data = load(base)
    assert data.class_names == ("cat", "dog")
    assert len(data.train_labels) == len(data.test_labels) == 2


@pytest.mark.parametrize(
    ("make", "named"),
    [
        (lambda base: put(base / "train" / "eel"), "the class 'eel' has no images"),
        (lambda base: put(base / "train" / "eel" / "0.png"), "test/eel: the class 'eel' has no images"),
        (lambda base: (base / "test" / "dog" / "0.png").unlink(), "test/dog: the class 'dog' has no images"),
        (lambda base: put(base / "test" / "eel" / "0.png"), "the class 'eel' has no folder"),
        (lambda base: put(base / "train" / "cat" / "2020" / "1.png"), "2020/1.png"),
        (lambda base: put(base / "train" / "1.png"), "train/1.png"),
        (lambda base: (base / "train" / "cat" / "1.heic").touch(), r"cat/1.heic: .*format"),
        (lambda base: (base / "train" / "cat" / "1.svg").touch(), r"cat/1.svg: .*format"),
        (lambda base: Image.fromarray(WHITE).save(base / "train/cat/1.png"), "cat/1.png cannot be read.*8 bits"),
        (
            lambda base: Image.fromarray(np.ones((8, 8), np.float32)).save(base / "test/cat/1.tiff"),
            "cat/1.tiff cannot be read.*8 bits",
        ),
        (lambda base: moving(base / "train/cat/1.gif"), "cat/1.gif cannot be read.*frames"),
    ],
)
def test_what_would_be_lost_or_read_wrong_is_refused_by_name(
    base: Path, make: Callable[[Path], None], named: str
) -> None:
    make(base)
    with pytest.raises(UserError, match=named) as error:
        load(base)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("ending", ["gif", "bmp", "jfif", "JPG", "webp", "tif", "pgm", "mpo.jpg"])
def test_kinds_of_images_that_are_read(base: Path, ending: str) -> None:
    if ending == "mpo.jpg":  # as phones write them: a preview behind the image
        picture().save(base / "train/cat/1.jpg", "MPO", save_all=True, append_images=[picture(0)])
    elif ending == "pgm":
        picture().convert("L").save(base / "train/cat/1.pgm")
    else:
        picture().save(base / f"train/cat/1.{ending}", {"jfif": "JPEG", "JPG": "JPEG"}.get(ending))
    data = load(base)
    assert data.train_labels.tolist() == [0, 0, 1]
    assert abs(int(data.train_images[1].float().mean()) - 90) < 3


@pytest.mark.parametrize(
    ("made", "named"),
    [
        ("train/.ipynb_checkpoints/0-checkpoint.JPEG", ""),
        ("train/n00000000/._x.JPEG", ""),
        ("train/n00000002/0.JPEG", "val/n00000002: the class 'n00000002' has no images"),
        ("train/n00000000/images/0.JPEG", "images/0.JPEG"),
        ("val/0.JPEG", "val/0.JPEG"),
    ],
)
def test_folders_of_imagenet(tmp_path: Path, made: str, named: str) -> None:
    folder = make_imagenet(tmp_path / "imagenet", classes=2, per_class=2, val_per_class=1)
    load_dataset.cache_clear()
    spec = DatasetSpec(name="imagenet")
    assert len(load_dataset(spec, tmp_path).train_labels) == 4  # and the list of files is kept
    put(folder / made)
    load_dataset.cache_clear()
    if not named:
        data = load_dataset(spec, tmp_path)
        assert (len(data.train_labels), data.num_classes) == (4, 2)
    else:
        with pytest.raises(UserError, match=named):
            load_dataset(spec, tmp_path)
