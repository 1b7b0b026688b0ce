"""An epoch chosen on held-out images: nothing of it is seen in training, and test images have no say in it."""

import json
from pathlib import Path

import pytest
import torch

from sskd.data.batch import LoaderConfig
from sskd.data.datasets.small import digits
from sskd.training.evaluation import accuracy
from sskd.training.setup import Setup, prepare
from sskd.training.tasks import build_task
from tests import small
from tests.imagenet_folder import make_imagenet

SPLIT = {"fraction": 0.2, "holdout": 0.25}
RECIPE = small.RECIPE | {"epochs": 3}


def setup_of(data: dict[str, object], runs: Path) -> Setup:
    return prepare(small.spec(data), runs, small.EXECUTION)


def test_the_result_holds_the_epoch_that_is_best_on_them(tmp_path: Path) -> None:
    spec = small.spec(small.student("kd", split=SPLIT, recipe=RECIPE))
    result = small.train_all(spec, tmp_path)
    (teacher,) = tmp_path.glob("teacher-*/result.json")  # without held-out images
    assert "chosen" not in json.loads(teacher.read_text())
    rows = small.metrics(tmp_path / spec.id)
    best = max(rows, key=lambda row: row["held_out_top1"])
    assert result["chosen"]["epoch"] == best["epoch"]
    assert result["chosen"]["test_top1"] == best["test_top1"]
    assert result["chosen"]["held_out_top1"] == best["held_out_top1"]
    assert result["best"]["test_top1"] == max(row["test_top1"] for row in rows)
    classes = [29, 29, 28, 29, 29, 29, 29, 29, 28, 29]  # a fifth of each digit's training images, about
    assert rows[0]["held_out_images"] == pytest.approx(sum(classes) / 4, abs=5)
    assert result["train_images"] + rows[0]["held_out_images"] == len(
        setup_of(small.student("kd", split={"fraction": 0.2}), tmp_path).split.indices
    )


def test_their_accuracy_is_of_them(tmp_path: Path) -> None:
    """Counted by hand, without augmentation."""
    setup = setup_of(small.teacher(split=SPLIT), tmp_path)
    assert setup.validation is not None
    job, part, data = build_task(setup), setup.split.validation, digits(Path(), None)
    assert part is not None
    pixels = data.train_images[part.indices].float() / 255
    images = (pixels - torch.tensor(data.mean).view(3, 1, 1)) / torch.tensor(data.std).view(3, 1, 1)
    with torch.inference_mode():
        right = job.output.eval()(images).argmax(1) == part.labels
    assert accuracy(job.output, setup.validation)["top1"] == pytest.approx(100 * right.float().mean().item())  # type: ignore[arg-type]
    assert job.validate()["images"] == len(part.indices)


def test_files_are_seen_as_test_images_are(tmp_path: Path) -> None:
    """Held-out images of a data set that is read while training: their own pixels, in order."""
    root = make_imagenet(tmp_path / "images")
    spec = small.spec(small.teacher(dataset={"name": "imagenet", "path": str(root)}, split={"holdout": 0.25}))
    setup = prepare(spec, tmp_path, small.EXECUTION)
    part = setup.split.validation
    assert part is not None
    batches = list(setup.data.subset_batches(part, 4, LoaderConfig(setup.device, workers=0)))
    assert torch.equal(torch.cat([labels for _, labels in batches]), part.labels)
    assert {images.shape[2:] for images, _ in batches} == {(224, 224)}
