"""Tests the statistics of the teacher that methods compute before the main training, also in a resumed run."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import torch

from sskd.methods.wkdl import class_distances
from sskd.training.setup import prepare
from sskd.training.tasks import build_task
from sskd.training.tasks.student import study
from tests import small


def begun(method: str, runs: Path) -> Any:
    """The task of a student, at the beginning of its first epoch."""
    task = build_task(prepare(small.spec(small.student(method)), runs, small.EXECUTION))
    task.stages[-1].begin_epoch(0)
    return task


def test_class_distances_are_of_all_training_images_as_they_are(runs: Path) -> None:
    task = begun("wkdl", runs)
    data, split = task.setup.data, task.setup.split
    pixels = data.train_images[split.indices].float() / 255
    mean, std = (torch.tensor(values).view(3, 1, 1) for values in (data.mean, data.std))
    with torch.no_grad():
        rows = task.teacher.features((pixels - mean) / std).feature_maps[-1].flatten(2).transpose(1, 2)
    fewest = torch.bincount(split.labels).min()
    each = [rows[split.labels == label][:fewest].flatten(0, 1) for label in range(10)]
    torch.testing.assert_close(task.method.distances, class_distances(torch.stack(each)), rtol=1e-4, atol=1e-5)
    assert "distances" in task.method.state_dict()


def test_labels_are_those_of_the_images_that_were_read() -> None:
    """If a corrupt image is skipped, another image takes its place, and brings its own label."""
    read = [("features of the first batch", torch.tensor([3, 0])), ("of the second", torch.tensor([1]))]

    class Images:
        def _replace(self, subset: Any) -> "Images":
            return self

        def features(self, network: Any) -> Any:
            return iter(read)

    seen: list[Any] = []
    split = SimpleNamespace(indices=torch.arange(3), labels=torch.tensor([2, 0, 1]))
    setup: Any = SimpleNamespace(test=Images(), split=split)
    method: Any = SimpleNamespace(studies="plain", study=seen.extend)
    study(method, None, setup)  # type: ignore[arg-type]
    assert [(name, labels.tolist()) for name, labels in seen] == [(name, labels.tolist()) for name, labels in read]


def test_class_means_are_of_all_training_images_once(runs: Path) -> None:
    """The digits are cropped, so means are near those of the plain images, and they are rounded."""
    task = begun("kdpp", runs)
    split, means = task.setup.split, task.method.means
    part = task.setup.test._replace(subset=split)
    vectors = torch.cat([features.pooled.float() for features, _ in part.features(task.teacher)])
    plain = torch.stack([vectors[split.labels == label].mean(0) for label in range(10)])
    assert torch.cosine_similarity(means, plain).min() > 0.9
    torch.testing.assert_close(means, means.round(decimals=4), rtol=0, atol=1e-6)
    assert torch.equal(begun("kdpp", runs).method.means, means)
