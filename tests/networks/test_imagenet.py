"""torchvision's networks as ours: the same numbers from the same weights, and weights by their published names."""

from pathlib import Path
from typing import Any

import pytest
import torch
import torchvision

from sskd.errors import UserError
from sskd.networks import build_network, feature_shapes
from sskd.networks.weights import load_network

NAMES = ("resnet18", "resnet50", "mobilenet_v2")  # resnet34 is of resnet18's class


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("training", [False, True])
def test_torchvisions_numbers(name: str, training: bool, tmp_path: Path) -> None:
    torch.manual_seed(0)
    original = torchvision.models.get_model(name, num_classes=7)
    original(torch.randn(8, 3, 64, 64))  # running statistics that are not the initial ones
    torch.save(original.state_dict(), tmp_path / "weights.pth")
    network_here = load_network(tmp_path / "weights.pth", name, 7)
    images = torch.randn(4, 3, 64, 80)
    for network in (network_here, original):
        network.train(training)
    torch.manual_seed(1)  # of mobilenet_v2's dropout
    wanted = original(images)
    torch.manual_seed(1)
    torch.testing.assert_close(network_here(images), wanted, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("name", NAMES)
def test_feature_maps(name: str) -> None:
    network = build_network(name, 7).eval()
    features = network.features(torch.randn(2, 3, 64, 64))
    assert len(features.feature_maps) == len(features.preactivations) == 5
    assert tuple(tuple(each.shape[1:]) for each in features.feature_maps) == feature_shapes(name, 64).feature_maps
    if name.startswith("resnet"):
        for tap, before in zip(features.feature_maps, features.preactivations, strict=True):
            assert torch.equal(tap, before.relu())
    else:
        for place in (0, -1):
            assert torch.equal(features.feature_maps[place], features.preactivations[place].clamp(0, 6))
    sizes = ((64, 112, 112), (64, 56, 56), (128, 28, 28), (256, 14, 14), (512, 7, 7))
    assert feature_shapes("resnet34", 224)[1:3] == (sizes, 512)


def test_mobilenet_v1_is_the_one_of_full_width() -> None:
    network = build_network("mobilenet_v1", 1000).eval()
    assert sum(parameter.numel() for parameter in network.parameters()) == 4_231_976
    features = network.features(torch.randn(2, 3, 64, 64))
    assert features.logits.shape == (2, 1000)
    for tap, before in zip(features.feature_maps, features.preactivations, strict=True):
        assert torch.equal(tap, before.relu())
    maps = ((32, 112, 112), (128, 56, 56), (256, 28, 28), (512, 14, 14), (1024, 7, 7))
    assert feature_shapes("mobilenet_v1", 224)[1:3] == (maps, 1024)
    assert [norm.num_features for norm in network.map_norms()] == [width for width, *_ in maps[1:]]


def test_weights_by_name(monkeypatch: pytest.MonkeyPatch) -> None:
    original = torchvision.models.resnet18()
    asked: list[Any] = []

    def from_url(url: str, *_: Any, **options: Any) -> dict[str, torch.Tensor]:
        if "resnet34" in url:
            raise OSError("no network")
        asked.append((url, options["check_hash"]))
        return original.state_dict()

    monkeypatch.setattr("torchvision.models._api.load_state_dict_from_url", from_url)
    for name in ("resnet18", "torchvision:resnet18"):
        network: Any = load_network("torchvision:IMAGENET1K_V1", name, 1000)
        assert torch.equal(network.classifier_layer.weight, original.fc.weight)
    assert asked == [("https://download.pytorch.org/models/resnet18-f37072fd.pth", True)] * 2
    for weights, name, classes, message in (
        ("IMAGENET1K_V1", "resnet18", 10, "its classifier has 1000 classes"),
        ("IMAGENET1K_V1", "resnet34", 1000, r"no network.*resnet34-b627a593\.pth"),
        ("IMAGENET1K_V3", "resnet34", 1000, "IMAGENET1K_V1"),
        ("IMAGENET1K_V1", "resnet20", 100, "torchvision has no weights of a network 'resnet20'"),
    ):
        with pytest.raises(UserError, match=message):
            load_network(f"torchvision:{weights}", name, classes)
