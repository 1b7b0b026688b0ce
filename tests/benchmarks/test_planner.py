"""A plan's checks of weights, classes, batches, pairs, image sizes and plugins, before anything is trained."""

import hashlib
import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torchvision

from benchmarks.commands.main import main
from benchmarks.planning.plan import check_runs, make_plan
from benchmarks.profiles.read import read_profile
from sskd.config.recipe import DatasetSpec
from sskd.data.datasets.registry import DatasetInfo, dataset_info, load_dataset
from sskd.methods import METHODS, Method, MethodInfo
from sskd.networks import build_network
from tests import small
from tests.benchmarks.made import tiny

BOTH = (["plan"], [])  # what a plan refuses, a run refuses too


class Suite:
    """The smallest profile with one seed, and its folder of results."""

    def __init__(self, folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
        self.folder, self.results, self.capsys = folder, folder / "results", capsys
        self.given = ["--profile", tiny(folder, seeds=[0]), "--results", str(self.results)]

    def refused(self, *options: str) -> str:
        """The one line with which it ends, with nothing trained."""
        assert main([*options, *self.given]) == 2
        error = self.capsys.readouterr().err
        assert error.count("\n") == 1
        assert not (self.results / "tiny" / "runs").exists()
        return error

    def planned(self, *options: str) -> str:
        assert main(["plan", *options, *self.given]) == 0
        return self.capsys.readouterr().out


@pytest.fixture
def suite(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Suite:
    return Suite(tmp_path, capsys)


def test_the_papers_profile_is_planned_without_its_images(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def no_download(*_: object, **__: object) -> None:
        raise AssertionError("a plan downloads nothing")

    monkeypatch.setattr(torchvision.datasets.CIFAR100, "download", no_download)
    options = ["--dataset-root", str(tmp_path), "--results", str(tmp_path / "r"), "--only", "comparison"]
    assert main(["plan", "--profile", "paper", *options]) == 0
    shown = capsys.readouterr().out
    assert f"cifar100 is not in {tmp_path}: counted as 50,000 images" in shown
    assert "student-resnet20-sskd-cifar100-s0" in shown


def arrays(path: Path, images: int, size: int, classes: int) -> dict[str, str]:
    """A data set of black images in a file, as a spec names it."""
    pixels, labels = np.zeros((images, size, size, 3), np.uint8), np.arange(images) % classes
    np.savez(path, train_images=pixels, train_labels=labels, test_images=pixels, test_labels=labels)
    load_dataset.cache_clear()
    return {"name": "npz", "path": str(path)}


def test_published_data_sets_are_as_large_as_is_assumed(tmp_path: Path) -> None:
    """The data sets whose sizes torchvision states. A user's file of the same name is counted itself."""
    assert dataset_info(DatasetSpec(name="cifar100"), tmp_path) == (DatasetInfo(50_000, 100, 32, None, 10_000), True)
    imagenet = DatasetInfo(1_281_167, 1000, 96, None, 50_000)
    assert dataset_info(DatasetSpec(name="imagenet", crop_size=96), tmp_path) == (imagenet, True)
    (tmp_path / "cifar-10-batches-py").mkdir()
    assert dataset_info(DatasetSpec(name="cifar10"), tmp_path) == (DatasetInfo(50_000, 10, 32, None, 10_000), False)
    arrays(tmp_path / "stl10.npz", 4, 16, 4)
    found, assumed = dataset_info(DatasetSpec(name="stl10"), tmp_path)
    assert (found.train_images, found.num_classes, found.image_size, assumed) == (4, 4, 16, False)


def test_weights_are_missed_before_anything_trains(suite: Suite) -> None:
    weights = suite.folder / "resnet8.pth"
    given = {"resnet8": {"network": "resnet8", "weights": str(weights)}}
    settings = ("--set", f"teachers={json.dumps(given)}")
    for verb in BOTH:
        error = suite.refused(*verb, *settings)
        assert f"no weights file {weights}" in error
        assert "--set teachers.resnet8.weights=FILE" in error
    torch.save(build_network("resnet8", 7).state_dict(), weights)
    for verb in BOTH:
        assert "its classifier has 7 classes" in suite.refused(*verb, *settings)
    torch.save(build_network("resnet8", 10).state_dict(), weights)
    suite.planned(*settings)
    digest = hashlib.sha256(weights.read_bytes()).hexdigest()
    given["resnet8"]["sha256"] = digest[::-1]
    assert f"its sha256 is {digest}" in suite.refused("plan", "--set", f"teachers={json.dumps(given)}")
    assert "nothing to report" in suite.refused("report", *settings)  # it needs no teacher


def test_torchvisions_weights_have_the_classes_of_imagenet(suite: Suite) -> None:
    teacher = {"resnet34": {"network": "resnet34", "weights": "torchvision:IMAGENET1K_V1"}}
    error = suite.refused("plan", "--set", f"teachers={json.dumps(teacher)}", "pair=resnet34/resnet8", "methods=[kd]")
    assert "torchvision:IMAGENET1K_V1 has 1000 classes, but the data set has 10" in error


@pytest.mark.parametrize(
    "key", ["recipe", "teacher_recipe", "head_recipe", "method_recipes.sskd", "head_recipes.contrastive"]
)
def test_a_batch_that_is_too_large_is_named_by_its_key(key: str, suite: Suite) -> None:
    for verb in BOTH:
        error = suite.refused(*verb, "--methods", "sskd", "--set", f"{key}.batch_size=1434")
        assert f"run_all: {key}.batch_size is 1434" in error


def test_pairs_are_checked_at_the_images_size(tmp_path: Path) -> None:
    sizes: list[tuple[int, ...]] = []

    @METHODS.register("looks")
    class Looks(Method):
        info = MethodInfo("Looks", "a test", 0, "nothing")
        required_features = frozenset({"labels", "feature_maps"})

        @classmethod
        def check(cls, settings: Any, student: Any, teacher: Any) -> None:
            sizes.append(student.feature_maps[0][1:])

    data, recipe = arrays(tmp_path / "a.npz", 6, 48, 2), small.RECIPE | {"batch_size": 4}
    spec = small.spec(small.student("looks", dataset=data, split={"fraction": 1.0}, recipe=recipe))
    check_runs([spec], read_profile("demo", []), tmp_path)
    assert sizes == [(48, 48)]


PLUGIN = """
from torch import nn
from torch.nn import functional as F
from sskd.methods import METHODS, LossTerms, Method, MethodInfo
from sskd.networks import NETWORKS

@METHODS.register("spoiled")
class Spoiled(Method):
    info = MethodInfo("Spoiled", "a test", 2026, "logits")
    required_features = frozenset({"logits"})
    loss_weights = {"t": 1.0}

    def loss_terms(self, student, teacher, batch):
        return LossTerms({"t": F.mse_loss(student.logits, teacher.logits).item()})

@NETWORKS.register("spoilt")
class Spoilt(nn.Module):
    def __init__(self, classes):
        super().__init__()
        self.fc = nn.Linear(3, classes)

    def forward(self, images):
        logits = self.fc(images.mean((2, 3)))
        return (logits, logits) if self.training else logits
"""
SPOILT = r"network 'spoilt' \(spoiled.py, line \d+\) on images of 32 x 32: .* a tuple"


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (("--methods", "kd,spoiled"), r"method 'spoiled' \(spoiled.py, line 13\) .*: its term 't' is a float"),
        (("--set", "pair=spoilt/resnet8"), SPOILT),
        (("--set", "pair=resnet8/spoilt"), SPOILT),
    ],
)
def test_a_plugins_faults_are_told_before_anything_trains(options: tuple[str, ...], said: str, suite: Suite) -> None:
    plugin = suite.folder / "spoiled.py"
    plugin.write_text(PLUGIN)
    for verb in BOTH:
        assert re.search(said, suite.refused(*verb, "--plugin", str(plugin), *options))


def test_a_trial_is_made_once_for_what_runs_have_in_common(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    tried: list[str] = []
    monkeypatch.setattr("benchmarks.planning.plan.try_method", lambda spec, *_: tried.append(spec.id))
    specs = [small.spec(small.student("kd", seed=seed)) for seed in range(3)]
    check_runs(specs, read_profile("demo", []), tmp_path)
    assert tried == [specs[0].id]


def test_data_that_is_not_here_is_another_checks(tmp_path: Path) -> None:
    """Results are read on machines that have no images."""
    spec = small.spec(small.student("kd", dataset={"name": "npz", "path": "nowhere.npz"}))
    assert make_plan([spec]).runs
    check_runs([spec], read_profile("demo", []), tmp_path)


@pytest.mark.parametrize("options", [("--count", "2"), ("--gpu", "A100", "--count", "0")])
def test_a_number_of_gpus_needs_their_name(options: tuple[str, ...], suite: Suite) -> None:
    suite.refused("plan", *options)


def test_a_run_at_two_places_is_planned_once(suite: Suite) -> None:
    """AT of all images is asked for by the table's own rows and by ``also``."""
    same = ("--set", "pairs={vgg13/vgg8: resnet8/resnet8}", "also=[at]", "fractions=[1.0]")
    ids = [row["id"] for row in json.loads(suite.planned("--only", "fig4a", "--json", *same))["runs"]]
    assert len(ids) == len(set(ids)) == 1 + 1 + 4
