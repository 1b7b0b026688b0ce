"""The linear probe is logistic regression, of what a network gives for images made as small as its own."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from sklearn.linear_model import LogisticRegression
from torch.nn import functional as F

from sskd.config.probe import ProbeSettings
from sskd.config.recipe import DatasetSpec
from sskd.data.datasets.registry import PUBLISHED_DATASETS, ImageData, load_dataset
from sskd.errors import UserError
from sskd.runs.run_folder import RunFolder
from sskd.runs.trained import load_student
from sskd.training.probe import linear_probe, probe_file, probe_run
from tests import small


def made(count: int, seed: int) -> tuple[torch.Tensor, torch.Tensor]:
    random = torch.Generator().manual_seed(seed)
    labels = torch.randint(4, (count,), generator=random)
    centres = torch.randn(4, 6, generator=torch.Generator().manual_seed(9))
    return centres[labels] + 1.2 * torch.randn(count, 6, generator=random) + 3, labels


def test_it_finds_what_scikit_learn_finds() -> None:
    (x, y), (x_test, y_test) = made(300, 1), made(200, 2)
    settings = ProbeSettings(l2=0.01, iterations=500)
    found = linear_probe((x, y), (x_test, y_test), 4, settings)
    scaled = [((features - x.mean(0)) / x.std(0)).numpy() for features in (x, x_test)]
    model = LogisticRegression(C=1 / (2 * settings.l2 * len(x)), max_iter=5000, tol=1e-8).fit(scaled[0], y.numpy())
    assert found["top1"] == pytest.approx(100 * model.score(scaled[1], y_test.numpy()), abs=0.6)
    assert found["train_top1"] == pytest.approx(100 * model.score(scaled[0], y.numpy()), abs=0.4)
    assert 40 < found["top1"] < 95
    assert linear_probe((x, y), (x_test, y_test), 4, settings) == found


def test_a_run_is_probed_on_images_made_as_small_as_its_own(tmp_path: Path) -> None:
    spec = small.spec(small.student("none", teacher=None, dataset={"name": "digits16"}))
    small.train_all(spec, tmp_path)
    settings = ProbeSettings(datasets=(DatasetSpec(name="digits"),), iterations=20)
    data = load_dataset(DatasetSpec(name="digits"), Path("data"))  # of 32 x 32
    assert isinstance(data, ImageData)
    found = probe_run(spec, tmp_path, data, settings, small.EXECUTION)
    net, info = load_student(tmp_path / spec.id, "last")

    def features(images: torch.Tensor) -> torch.Tensor:
        halved = F.interpolate(images.float(), (16, 16), mode="bilinear", antialias=True)
        with torch.inference_mode():
            return net.features(info.normalise(halved)).pooled.clone()

    train, test = features(data.train_images), features(data.test_images)
    wanted = linear_probe((train, data.train_labels), (test, data.test_labels), 10, settings)
    assert found["top1"] == pytest.approx(wanted["top1"], abs=1.0)
    assert (found["train_images"], found["test_images"], found["features"], found["image_size"]) == (1433, 364, 64, 16)
    assert found["top1"] > 30  # of ten classes: the features say something
    (tmp_path / spec.id / "last.safetensors").unlink()
    with pytest.raises(UserError, match=r"last.safetensors"):
        probe_run(spec, tmp_path, data, settings, small.EXECUTION)
    elsewhere: Any = type("Files", (), {"name": "files"})()
    with pytest.raises(UserError, match="in memory"):
        probe_run(spec, tmp_path, elsewhere, settings, small.EXECUTION)


def test_another_probe_is_another_file(tmp_path: Path) -> None:
    folder = RunFolder(tmp_path, small.spec(small.teacher()))
    plain, others = DatasetSpec(name="digits"), DatasetSpec(name="digits", path="x")
    files = {
        probe_file(folder, plain, ProbeSettings()),
        probe_file(folder, plain, ProbeSettings(datasets=(others,))),  # which others there are says nothing of this one
        probe_file(folder, others, ProbeSettings()),
        probe_file(folder, plain, ProbeSettings(l2=0.5)),
    }
    assert len(files) == 3


def test_turned_digits_are_digits_turned() -> None:
    upright, turned = (load_dataset(DatasetSpec(name=n), Path("data")) for n in ("digits16", "digits16-turned"))
    assert isinstance(upright, ImageData)
    assert isinstance(turned, ImageData)
    assert np.array_equal(np.rot90(upright.test_images[5].numpy(), axes=(1, 2)), turned.test_images[5].numpy())
    assert torch.equal(upright.train_labels, turned.train_labels)


def test_stl10_from_its_files(tmp_path: Path) -> None:
    """The files have the archive's format: images by channel and column, classes from 1."""
    known = PUBLISHED_DATASETS["stl10"].info
    folder = tmp_path / "stl10_binary"
    folder.mkdir()
    images = np.random.default_rng(0).integers(0, 256, (20, 3, 96, 96), np.uint8)
    images.tofile(folder / "train_X.bin")
    (np.arange(20) % 10 + 1).astype(np.uint8).tofile(folder / "train_y.bin")
    images[:9].tofile(folder / "test_X.bin")  # cut off
    np.ones(10, np.uint8).tofile(folder / "test_y.bin")
    load_dataset.cache_clear()
    with pytest.raises(UserError, match="test_labels: expected 9 integers"):
        load_dataset(DatasetSpec(name="stl10"), tmp_path)
    images[:10].tofile(folder / "test_X.bin")
    data = load_dataset(DatasetSpec(name="stl10"), tmp_path)
    load_dataset.cache_clear()
    assert isinstance(data, ImageData)
    assert torch.equal(data.train_images[7], torch.from_numpy(images[7].transpose(0, 2, 1).copy()))
    assert data.train_labels.tolist() == [*range(10), *range(10)]
    assert data.image_size == known.image_size
