"""Every published network gives the published outputs on fixed weights and images."""

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from sskd.networks import NETWORKS, build_network, feature_shapes
from tests import golden

TOLERANCE = 1e-4


def assert_like(found: Tensor, expected: dict[str, Any]) -> None:
    assert list(found.shape) == expected["shape"]
    norm, magnitude, mean = found.norm().item(), found.abs().mean().item(), found.mean().item()
    assert norm == pytest.approx(expected["norm"], rel=TOLERANCE)
    assert magnitude == pytest.approx(expected["abs_mean"], rel=TOLERANCE)
    assert mean == pytest.approx(expected["mean"], abs=TOLERANCE * expected["abs_mean"])


@pytest.mark.parametrize("name", golden.ARCHITECTURES)
def test_published_outputs(name: str) -> None:
    expected = golden.architecture(name)
    network = build_network(name, 100)
    entries = [[key, list(value.shape)] for key, value in network.state_dict().items()]
    assert entries == expected["entries"]
    assert sum(p.numel() for p in network.parameters()) == expected["parameters"]

    shapes = feature_shapes(name)
    assert [*map(list, shapes.feature_maps), [shapes.embed_dim]] == [each["shape"][1:] for each in expected["features"]]

    network.load_state_dict(golden.state_dict(expected["entries"]))
    with torch.no_grad():
        features = network.eval().features(golden.images())
        logits = torch.tensor(expected["logits"])
        torch.testing.assert_close(features.logits, logits, rtol=0, atol=TOLERANCE * logits.abs().max().item())
        for found, wanted in zip((*features.feature_maps, features.pooled), expected["features"], strict=True):
            assert_like(found, wanted)
        for found, wanted in zip(
            (*features.preactivations, features.pooled), expected["pre_activation_features"], strict=True
        ):
            assert_like(found, wanted)
        assert_like(network.train()(golden.images(4, seed=12346)), expected["train_mode_logits_stats"])


@pytest.mark.parametrize("name", ["resnet8", "wrn_16_1", "vgg8", "MobileNetV2", "ShuffleV1", "ShuffleV2"])
def test_other_image_sizes_and_gradients(name: str) -> None:
    """One forward pass updates each norm once, every parameter gets a gradient, and 64 and 16 pixels work."""
    network = build_network(name, 7)
    features = network.features(torch.randn(2, 3, 64, 64))
    assert features.logits.shape == (2, 7)
    assert network(torch.randn(2, 3, 16, 16)).shape == (2, 7)
    features.logits.sum().backward()
    assert all(p.grad is not None for p in network.parameters())
    counts = {key: value.item() for key, value in network.state_dict().items() if "num_batches" in key}
    assert set(counts.values()) == {2}


def test_tails_name_children() -> None:
    """What the last map depends on is not among them: tests/methods/test_networks.py."""
    for name in NETWORKS:
        with torch.device("meta"):
            network = build_network(name, 5)
        assert set(network.tail) <= set(dict(network.named_children())), name


@pytest.mark.parametrize("name", ["resnet8", "wrn_16_2", "vgg8", "MobileNetV2", "ResNet50"])
def test_convolutions_start_by_fan_out(name: str) -> None:
    """Convolutions are initialised as in the published networks; the ShuffleNets have PyTorch's default."""
    torch.manual_seed(0)
    convolutions = [m for m in build_network(name, 10).modules() if isinstance(m, nn.Conv2d)]
    largest = max(convolutions, key=lambda layer: layer.weight.numel())
    wanted = (2 / (largest.out_channels * largest.kernel_size[0] ** 2)) ** 0.5
    assert largest.weight.std().item() == pytest.approx(wanted, rel=0.02)
