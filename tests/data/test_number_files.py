"""Labels and lists of images from files: what people have is read, what does not fit is refused when it is planned."""

import json
import os
import pickle
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from benchmarks.planning.plan import check_runs
from benchmarks.profiles.read import read_profile
from benchmarks.tables.spec_builder import SpecBuilder
from sskd.config.recipe import SplitSpec
from sskd.config.validation import from_dict
from sskd.data.splits import make_split, training_images
from sskd.errors import UserError
from tests import small

CLEAN = torch.arange(12) % 3
NOISY = np.array([0, 1, 2, 0, 1, 2, 2, 2, 2, 0, 0, 0])
SOME = np.array([9, 1, 4, 2])


class Executed:
    def __reduce__(self) -> Any:
        return os.mkdir, ("executed",)


def spec(**given: Any) -> SplitSpec:
    made = from_dict(SplitSpec, given, "split")
    assert isinstance(made, SplitSpec)
    return made


def written(path: Path, numbers: Any) -> Path:
    """The numbers as a file of the path's kind."""
    as_list = {key: np.asarray(value).tolist() for key, value in numbers.items()} if isinstance(numbers, dict) else None
    match path.suffix:
        case ".npy":
            np.save(path, numbers)
        case ".npz":
            np.savez(path, **(numbers if as_list else {"arr_0": numbers}))
        case ".json":
            path.write_text(json.dumps(as_list or np.asarray(numbers).tolist()), encoding="utf-8")
        case ".txt" | ".csv":
            np.savetxt(path, numbers, fmt="%d")
        case _:
            torch.save(numbers, path)
    return path


ENDINGS = (".npy", ".npz", ".json", ".txt", ".csv", ".pt", ".pth")


@pytest.mark.parametrize("ending", ENDINGS)
def test_labels_and_indices_of_every_kind_of_file(tmp_path: Path, ending: str) -> None:
    given = spec(
        labels=str(written(tmp_path / f"a{ending}", NOISY)), indices=str(written(tmp_path / f"b{ending}", SOME))
    )
    split = make_split(CLEAN, 3, given)
    assert split.indices.tolist() == [1, 2, 4, 9]
    assert split.labels.tolist() == NOISY[[1, 2, 4, 9]].tolist()
    assert training_images(given, 12, 3) == 4


MANY = {"clean_label": CLEAN.numpy(), "noisy_label": NOISY, "noisy_coarse_label": NOISY * 0}


@pytest.mark.parametrize(
    ("name", "numbers", "key"),
    [
        ("CIFAR-100_human.pt", MANY, None),
        ("worse.pt", {"aggre_label": NOISY * 0, "worse_label": NOISY, "clean_label": CLEAN}, "worse_label"),
        ("noise.json", {str(number): label for number, label in enumerate(NOISY)}, None),
        ("noise.npz", {"labels": NOISY, "indices": SOME}, None),
        ("column.npy", NOISY[:, None], None),
        ("floats.npy", NOISY.astype(np.float32), None),
    ],
)
def test_which_list_of_a_file(tmp_path: Path, name: str, numbers: Any, key: str | None) -> None:
    path = tmp_path / name
    if name == "noise.json":
        path.write_text(json.dumps({place: int(label) for place, label in numbers.items()}), encoding="utf-8")
    else:
        written(path, numbers)
    split = make_split(CLEAN, 3, spec(labels={"file": str(path), "key": key}))
    assert split.labels.tolist() == NOISY.tolist()


@pytest.mark.parametrize(
    "text", ["[0, 1, 2, 3]", "0 1 2 3\n", "0\n1\n\n# two more\n2.0\n3.000e+00\n", "\ufeff0\r\n1\r\n2\r\n3"]
)
def test_kinds_of_text(tmp_path: Path, text: str) -> None:
    (tmp_path / "a.txt").write_text(text, encoding="utf-8")
    assert make_split(CLEAN, 3, spec(indices=str(tmp_path / "a.txt"))).indices.tolist() == [0, 1, 2, 3]


def test_a_mask_lists_images_and_a_share_is_of_those_listed(tmp_path: Path) -> None:
    path = written(tmp_path / "mask.npy", np.arange(12) < 6)
    split = make_split(CLEAN, 3, spec(indices=str(path), fraction=0.5, holdout=0.0))
    assert split.indices.max() < 6
    assert len(split.indices) == 3
    held = make_split(CLEAN, 3, spec(indices=str(path), holdout=0.5))
    assert held.validation is not None
    assert sorted([*held.indices.tolist(), *held.validation.indices.tolist()]) == list(range(6))


@pytest.mark.parametrize(
    ("setting", "name", "numbers", "message"),
    [
        ("labels", "a.npy", NOISY[:-1], "has 11 labels, .* 12 images"),
        ("labels", "a.txt", NOISY + 1, r"has 3 at index \d+, which is not in 0..2 \(the first is 0\)"),
        ("labels", "a.pt", NOISY - 1, "has -1 at index 0"),
        ("labels", "a.npy", NOISY > 1, "truth values"),
        ("labels", "a.npy", np.eye(3)[NOISY], r"found an array of shape \(12, 3\)"),
        ("labels", "a.npy", NOISY + 0.5, "is 0.5, .*not a whole number"),
        ("labels", "a.npy", np.array(["cat"] * 12), "'cat'"),
        ("labels", "a.npz", {"x": NOISY, "y": NOISY}, r"holds x, y: .*\{file: .*, key: x\}"),
        ("labels", "a.pt", {"clean_label": 2 - CLEAN.numpy(), "noisy_label": NOISY}, "'clean_label' .* order"),
        ("labels", "a.pt", {"epoch": 3}, "not contain a list of numbers"),
        ("labels", "a.pt", Executed(), "more than tensors"),
        ("indices", "a.txt", np.array([0, 3, 12]), "has 12 at index 2, which is not in 0..11"),
        ("indices", "a.npy", np.arange(12) + 1, "the first is 0"),
        ("indices", "a.npy", np.array([-1, 3]), "has -1 at index 0"),
        ("indices", "a.json", np.array([5, 3, 5]), "image 5 twice"),
        ("indices", "a.npy", np.arange(0), "empty"),
        ("indices", "a.npy", np.zeros(12, bool), "not a mask"),
        ("indices", "a.csv", np.arange(6).reshape(3, 2), r"found an array of shape \(3, 2\)"),
    ],
)
def test_files_that_do_not_fit(tmp_path: Path, setting: str, name: str, numbers: Any, message: str) -> None:
    given = spec(**{setting: str(written(tmp_path / name, numbers))})
    with pytest.raises(UserError, match=f"split.{setting}: .*{message}") as error:
        make_split(CLEAN, 3, given)
    assert "\n" not in str(error.value)
    assert not Path("executed").exists()


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.pkl", pickle.dumps([0, 1]), "a pickle can execute"),
        ("a.json", b"[1, 2", "cannot be read as numbers"),
        ("a.json", b"[" * 100_000, "cannot be read as numbers"),
        ("a.pt", b"version https://git-lfs", "truncated"),
        ("a.txt", b"\xff\xfe\x00", "cannot be read as numbers"),
        ("a.mat", b"MATLAB", "not supported"),
    ],
)
def test_files_that_cannot_be_read(tmp_path: Path, name: str, content: bytes, message: str) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(UserError, match=message) as error:
        make_split(CLEAN, 3, spec(labels=str(tmp_path / name)))
    assert "\n" not in str(error.value)
    assert "\x1b" not in str(error.value)


def test_absent_files_folders_and_noise_beside_labels(tmp_path: Path) -> None:
    for place in (tmp_path / "none.npy", tmp_path):
        with pytest.raises(UserError, match=str(place)):
            spec(labels=str(place))
    path = written(tmp_path / "a.npy", NOISY)
    with pytest.raises(UserError, match=r"split\.noise .* split\.labels"):
        make_split(CLEAN, 3, spec(labels=str(path), noise=0.1))


def test_the_id_follows_the_content_and_not_the_path(tmp_path: Path) -> None:
    first, second = (written(tmp_path / f"{name}.npy", NOISY) for name in "ab")
    other = written(tmp_path / "c.npy", NOISY[::-1])
    ids = [small.spec(small.student(split={"labels": str(path)})).id for path in (first, second, other)]
    assert ids[0] == ids[1] != ids[2]
    assert small.spec(small.student(split={"indices": str(first)})).id not in ids
    assert small.spec(small.student(split={"labels": {"file": str(first), "key": "x"}})).id not in ids
    given = spec(labels=str(first))
    first.unlink()
    assert spec(**given.model_dump()) == given  # a run's spec is read where the file is no more
    np.save(first, NOISY[::-1])
    with pytest.raises(UserError, match="sha256"):
        make_split(CLEAN, 3, given)


@pytest.mark.parametrize(
    ("dataset", "setting", "numbers", "message"),
    [
        ("digits", "labels", np.zeros(1432, int), "has 1,432 labels"),
        ("digits", "indices", np.arange(100), ""),
        ("digits", "indices", np.arange(20), "batch_size"),
        ("cifar100", "labels", np.zeros(50_000, int), ""),  # a published data set is counted without its files
        ("cifar100", "labels", np.zeros(49_999, int), "has 49,999 labels"),
    ],
)
def test_files_are_checked_when_runs_are_planned(
    tmp_path: Path, dataset: str, setting: str, numbers: Any, message: str
) -> None:
    file = written(tmp_path / "a.npy", numbers)
    profile = read_profile("demo", [f"dataset={{name: {dataset}}}", f"split.{setting}={file}"])
    specs = SpecBuilder(profile)
    assert all(run.split == SplitSpec() for run in specs.teacher_runs("resnet14"))  # all images, with the right labels
    student = specs.student(("resnet14", "resnet8"), specs.method("none"), 0)
    with pytest.raises(UserError, match=message) if message else nullcontext():
        check_runs([student], profile, tmp_path)
