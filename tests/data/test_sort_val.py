"""ImageNet's flat validation images sorted into classes, by the lists that people have of them."""

import os
import re
from pathlib import Path

import numpy as np
import pytest

from sskd.config.recipe import DatasetSpec
from sskd.data.datasets.registry import load_dataset
from sskd.data.sort_val import main as sort_val
from sskd.errors import UserError
from tests.imagenet_folder import make_imagenet


def test_the_flat_validation_set_is_sorted(tmp_path: Path) -> None:
    folder = make_imagenet(tmp_path / "images", classes=2, per_class=2, val_per_class=2)
    lines = []
    for file in sorted((folder / "val").glob("*/*")):
        lines.append(f"{file.name} {file.parent.name}\n")
        os.replace(file, folder / "val" / file.name)
    for wnid in ("n00000000", "n00000001"):
        (folder / "val" / wnid).rmdir()
    with pytest.raises(UserError, match="flat validation set.*python -m sskd.data.sort_val"):
        load_dataset(DatasetSpec(name="imagenet", path=str(folder)), tmp_path)
    (tmp_path / "labels.txt").write_text("".join(lines))
    assert sort_val([str(folder / "val"), "--labels", str(tmp_path / "labels.txt")]) == 0
    load_dataset.cache_clear()
    assert load_dataset(DatasetSpec(name="imagenet", path=str(folder)), tmp_path).test_labels.tolist() == [0, 0, 1, 1]


def test_the_development_kit(tmp_path: Path) -> None:
    from scipy.io import savemat

    kit, val = tmp_path / "kit" / "data", tmp_path / "val"
    kit.mkdir(parents=True)
    val.mkdir()
    kind = np.dtype([("ILSVRC2012_ID", "i4"), ("WNID", "O")])
    savemat(str(kit / "meta.mat"), {"synsets": np.array([(1, "n1"), (2, "n2")], dtype=kind)})
    (kit / "ILSVRC2012_validation_ground_truth.txt").write_text("2\n1\n")
    for number in (1, 2):
        (val / f"ILSVRC2012_val_{number:08d}.JPEG").touch()
    assert sort_val([str(val), "--devkit", str(kit.parent)]) == 0
    assert (val / "n2" / "ILSVRC2012_val_00000001.JPEG").exists()
    assert (val / "n1" / "ILSVRC2012_val_00000002.JPEG").exists()
    assert sort_val([str(val), "--devkit", str(tmp_path)]) == 2


def flat(tmp_path: Path) -> Path:
    """Four validation images beside each other, and train/ with the folders of three classes."""
    for wnid in ("n01", "n02", "n03"):
        (tmp_path / "train" / wnid).mkdir(parents=True)
    (tmp_path / "val").mkdir()
    for number in range(1, 5):
        (tmp_path / "val" / f"ILSVRC2012_val_{number:08d}.JPEG").touch()
    return tmp_path / "val"


NAMES = [f"ILSVRC2012_val_{number:08d}" for number in range(1, 5)]
KAGGLE = ["ImageId,PredictionString", f"{NAMES[1]},n03 85 1 499 272 n03 1 2 3 4 ", f"{NAMES[0]},n01 1 2 3 4"]
KAGGLE += [f"{NAMES[2]},n02 1 2 3 4 ", f"{NAMES[3]},n01 1 2 3 4"]
CAFFE = [f"{name}.JPEG {number}" for name, number in zip(NAMES, (0, 2, 1, 0), strict=True)]


@pytest.mark.parametrize(
    ("file", "lines"),
    [
        ("LOC_val_solution.csv", KAGGLE),
        ("val.txt", CAFFE),
        ("val.txt", [f"val/{line}" for line in CAFFE]),
        (
            "pairs.txt",
            [f"{name}.JPEG\t{c}" for name, c in zip(NAMES, ("n01", "n03", "n02", "n01"), strict=True)] + [""],
        ),
        ("synset_labels.txt", ["n01", "n03", "n02", "n01"]),
    ],
)
def test_lists_of_classes_that_people_have(tmp_path: Path, file: str, lines: list[str]) -> None:
    val = flat(tmp_path)
    (tmp_path / file).write_text("\ufeff" + "\r\n".join(lines), encoding="utf-8")
    for _ in range(2):  # the second finds all of it done
        assert sort_val([str(val), "--labels", str(tmp_path / file)]) == 0
    found = {path.stem: path.parent.name for path in val.glob("*/*")}
    assert found == dict(zip(NAMES, ("n01", "n03", "n02", "n01"), strict=True))


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        ([line.replace("n02", "n99") for line in KAGGLE], "'n99' has no folder in"),
        ([*KAGGLE, f"{NAMES[0]},n02 1 2 3 4"], "has two classes, n01 and n02"),
        ([*KAGGLE, "ILSVRC2012_val_00000005,n02 1 2 3 4"], "not found in .*: ILSVRC2012_val_00000005.JPEG"),
        ([*KAGGLE, f"{NAMES[0]},"], "line 6: expected an image and its class"),
        ([line.replace(" 2", " 3") for line in CAFFE], "numbers from 0 to 3, but .* has 3 folders"),
        ([f"{NAMES[0]}.JPEG ../../evil"], "evil"),
        (["n01", "n02"], "2 classes, .* 4 images"),
        (["490", "361", "171", "822"], "--devkit"),
        ([], "is empty"),
    ],
)
def test_nothing_moves_where_the_list_does_not_fit(
    tmp_path: Path, lines: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    val = flat(tmp_path)
    (tmp_path / "list").write_text("\n".join(lines), encoding="utf-8")
    assert sort_val([str(val), "--labels", str(tmp_path / "list")]) == 2
    error = capsys.readouterr().err
    assert re.search(message, error)
    assert error.count("\n") == 1
    assert sorted(path.name for path in val.iterdir()) == [f"{name}.JPEG" for name in NAMES]
