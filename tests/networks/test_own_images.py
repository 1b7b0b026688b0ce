"""Networks whose images are normalised and sized as they were trained with, and training that starts from weights."""

import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from benchmarks.planning.plan import check_teachers, make_plan
from benchmarks.profiles.read import read_profile
from benchmarks.tables.spec_builder import SpecBuilder
from sskd.config.networks import NetworkSettings, Statistics
from sskd.config.pretrained import FromFile
from sskd.data.datasets.registry import load_dataset
from sskd.errors import UserError
from sskd.networks import NETWORKS, build_network, feature_shapes
from sskd.networks.build import with_data_config
from sskd.networks.folded import FrozenNetwork
from sskd.networks.weights import check_fits, check_weights, load_into, load_network
from sskd.networks.zoo import find_weights
from sskd.runs.spec import TeacherSpec
from sskd.runs.trained import load_student
from tests import small

DATA = Statistics((0.2, 0.3, 0.4), (0.1, 0.2, 0.3))
HALF = Statistics((0.5, 0.5, 0.5), (0.5, 0.5, 0.5))
BYTES = Statistics((0.48235, 0.45882, 0.40784), (1 / 255, 1 / 255, 1 / 255))  # torchvision's vgg16 FEATURES


def tiny(num_classes: int) -> nn.Module:
    return nn.Sequential(
        nn.Conv2d(3, 4, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, num_classes)
    )


@pytest.fixture
def timm(monkeypatch: pytest.MonkeyPatch) -> None:
    """A timm of one network, tiny, with weights in1k for 7 classes, that needs no internet."""
    config = SimpleNamespace(
        num_classes=7,
        url="",
        hf_hub_id="timm/tiny",
        input_size=(3, 24, 24),
        mean=HALF.mean,
        std=HALF.std,
        fixed_input_size=False,
    )

    def create_model(name: str, num_classes: int = 7, pretrained: bool = False) -> nn.Module:
        if not pretrained:
            return tiny(num_classes)
        if name == "tiny.offline":
            raise OSError("no network")
        torch.manual_seed(5)
        return tiny(7)

    made = SimpleNamespace(
        list_models=lambda: ["tiny"],
        list_pretrained=lambda pattern="": ["tiny.in1k", "tiny.offline"],
        get_pretrained_cfg=lambda name: config,
        create_model=create_model,
    )
    monkeypatch.setitem(sys.modules, "timm", made)


def normalised(raw: Tensor, used: Statistics) -> Tensor:
    mean, std = (torch.tensor(values).view(3, 1, 1) for values in used)
    return (raw - mean) / std


@pytest.mark.parametrize("wanted", [HALF, DATA, BYTES])
@pytest.mark.parametrize(("name", "size"), [("resnet8", None), ("resnet8", 24), ("own", 24)])
def test_a_network_sees_images_as_it_was_trained_with(wanted: Statistics, name: str, size: int | None) -> None:
    NETWORKS.register("own")(tiny)
    settings = NetworkSettings(mean=wanted.mean, std=wanted.std, image_size=size)
    raw = torch.rand(4, 3, 16, 16, generator=torch.Generator().manual_seed(0))
    network = build_network(name, 10, settings, DATA).eval().requires_grad_(False)
    plain = network.get_submodule("network")
    found, expected = network.features(normalised(raw, DATA)), plain.features(normalised(raw, wanted))
    torch.testing.assert_close(found.logits, expected.logits, rtol=1e-4, atol=1e-4)
    assert feature_shapes(name, 16, settings).feature_maps == tuple(
        tuple(each.shape[1:]) for each in expected.feature_maps
    )
    if network.foldable:
        folded = FrozenNetwork(network, torch.float32).features(normalised(raw, DATA))
        torch.testing.assert_close(folded.logits, found.logits, rtol=1e-3, atol=1e-3 * found.logits.abs().max().item())
    assert network.classifier_layer.out_features == 10


def test_data_configurations(timm: None) -> None:
    found = with_data_config("timm:tiny", NetworkSettings(data_config="timm:in1k"))
    assert (found.image_size, found.mean, found.std) == (24, *HALF)
    assert with_data_config("timm:tiny", NetworkSettings(data_config="timm:in1k", image_size=32)).image_size == 32
    assert find_weights("vgg16", "torchvision:IMAGENET1K_FEATURES").statistics.std == BYTES.std
    assert find_weights("torchvision:efficientnet_v2_l", "torchvision:IMAGENET1K_V1")[1:3] == (480, HALF)
    assert find_weights("resnet18", "torchvision:IMAGENET1K_V1").image_size == 224
    with pytest.raises(
        UserError, match="has 0 classes, but the data set has 10"
    ):  # a published file without a classifier
        check_fits(FromFile(network="torchvision:vgg16", weights="torchvision:IMAGENET1K_FEATURES"), 10)
    with pytest.raises(UserError, match="unknown weights of resnet18 'IMAGENET1K_V9'"):
        find_weights("resnet18", "torchvision:IMAGENET1K_V9")


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"mean": [0.5, 0.5, 0.5]}, "'mean' and 'std'"),
        ({"std": [0.5, 0.5, 0.5]}, "'mean' and 'std'"),
        ({"mean": [0, 0, 0], "std": [0.5, 0, 0.5]}, "greater than 0"),
        ({"mean": [0.5, 0.5], "std": [0.5, 0.5, 0.5]}, "mean"),
        ({"data_config": "a1_in1k"}, "'data_config'"),
    ],
)
def test_settings_that_are_refused(settings: dict[str, Any], said: str) -> None:
    with pytest.raises(UserError, match=said):
        small.spec(small.teacher(network_settings=settings))


def plan_lines(settings: list[str], root: Path = Path("data")) -> list[str]:
    profile = read_profile("demo", [*settings, "pair=timm:tiny/resnet8"])
    return check_teachers(make_plan(SpecBuilder(profile).teacher_runs("timm:tiny")).runs, root)


def test_the_plan_says_how_images_come_and_where_training_starts(timm: None) -> None:
    start = "teachers.timm:tiny.start=timm:in1k"
    told = plan_lines([start])
    assert any("timm:in1k was trained with images of 24 x 24 pixels, normalised with mean 0.5" in line for line in told)
    assert "teacher timm:tiny: its training starts from timm:in1k" in told
    told = plan_lines([start, 'network_settings={"timm:tiny": {data_config: "timm:in1k"}}'])
    assert any("timm:in1k's data configuration sets images of 24 x 24" in line for line in told)
    told = plan_lines(['network_settings={"timm:tiny": {mean: [0, 0, 0], std: [1, 1, 1]}}'])
    assert told == ["timm:tiny: network_settings sets images normalised with mean 0, 0, 0 and std 1, 1, 1"]
    with pytest.raises(UserError, match="has 7 classes, but .* has 10: .* as its 'start'"):
        plan_lines(["teachers.timm:tiny.weights=timm:in1k"])
    with pytest.raises(UserError, match="unknown weights of timm:tiny 'in2k'"):
        plan_lines(["teachers.timm:tiny.start=timm:in2k"])


def test_weights_of_timm_that_cannot_be_had(timm: None) -> None:
    with pytest.raises(UserError, match=r"could not be downloaded .no network."):
        load_network("timm:offline", "timm:tiny", 7)
    with pytest.raises(UserError, match="networks 'timm:NAME', not 'resnet18'"):
        check_weights(FromFile(network="resnet18", weights="timm:in1k"))


@pytest.mark.parametrize("source", ["published", "a file", "a file of as many classes"])
def test_training_starts_from_weights(source: str, tmp_path: Path, timm: None) -> None:
    theirs = sys.modules["timm"].create_model("tiny", pretrained=True)
    if source == "a file of as many classes":
        theirs = tiny(10)
    torch.save({"net": {f"module.{key}": value for key, value in theirs.state_dict().items()}}, tmp_path / "w.pth")
    start = FromFile(network="timm:tiny", weights="timm:in1k" if source == "published" else str(tmp_path / "w.pth"))
    ours: Any = build_network("timm:tiny", 10)
    fresh = ours.classifier_layer.weight.clone()
    load_into(ours, start.weights, start.network, 10, new_classifier=True)
    assert torch.equal(ours.network[0].weight, theirs.state_dict()["0.weight"])
    same = source == "a file of as many classes"
    assert torch.equal(ours.classifier_layer.weight, theirs.state_dict()["4.weight"] if same else fresh)
    torch.save({key: value for key, value in theirs.state_dict().items() if key != "0.bias"}, tmp_path / "w.pth")
    with pytest.raises(UserError, match=r"it lacks network\.0\.bias"):
        load_into(ours, tmp_path / "w.pth", "timm:tiny", 10, new_classifier=True)


def test_a_fine_tuned_teacher_trains_and_loads(tmp_path: Path, timm: None) -> None:
    """Its run is a teacher's like any other, and what it has learned is loaded with its own normalisation."""
    network = {"network": "timm:tiny", "network_settings": {"data_config": "timm:in1k"}}
    start = {"network": "timm:tiny", "weights": "timm:in1k"}
    spec = small.spec(small.teacher(**network, start=start))
    result = small.train_all(spec, tmp_path)
    data = load_dataset(spec.dataset, Path("data"))
    loaded, info = load_student(tmp_path / spec.id, "last")
    with torch.inference_mode():
        right = loaded(info.normalise(data.test_images)).argmax(1) == data.test_labels
    assert 100 * right.float().mean().item() == pytest.approx(result["last"]["test_top1"], abs=0.01)
    assert len({small.spec(small.teacher(**network, **more)).id for more in ({}, {"start": start})}) == 2
    for wrong, said in (
        ({"start": start | {"network": "resnet8"}}, "'start'"),
        ({"start": start, "teacher": start, "network_settings": {}}, "'start'"),
    ):
        with pytest.raises(UserError, match=said):
            small.spec(small.teacher(**(network | wrong)))


def test_a_profiles_entry_is_a_start_or_given(timm: None) -> None:
    (run,) = SpecBuilder(read_profile("demo", ["teachers.timm:tiny.start=timm:in1k"])).teacher_runs("timm:tiny")
    assert isinstance(run, TeacherSpec)
    assert run.start == FromFile(network="timm:tiny", weights="timm:in1k")
    (given,) = SpecBuilder(read_profile("demo", ["teachers.timm:tiny.weights=a.pth"])).teacher_runs("timm:tiny")
    assert given.start is None
    assert given.teacher == FromFile(network="timm:tiny", weights="a.pth")
    with pytest.raises(UserError, match="'sha256'"):
        read_profile("demo", ['teachers={"timm:tiny": {start: "timm:in1k", sha256: "0"}}'])
