"""The frozen teacher's fast form computes what the network does."""

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from sskd.networks import NETWORKS, Features, Network, build_network
from sskd.networks.folded import FrozenNetwork
from tests import golden

SMALL_ENOUGH = [name for name in NETWORKS if name not in ("vgg16", "vgg19", "resnet110")]


@pytest.mark.parametrize("name", SMALL_ENOUGH)
def test_agrees_in_fp32_and_leaves_the_network_alone(name: str) -> None:
    network = build_network(name, 10)
    network.train()(torch.randn(8, 3, 32, 32))  # running statistics that are not the initial ones
    network.eval()
    before = {key: value.clone() for key, value in network.state_dict().items()}
    frozen = FrozenNetwork(network, torch.float32)
    images = golden.images()
    with torch.inference_mode():
        folded, plain = frozen.features(images), network.features(images)
    for found, wanted in zip(
        (folded.logits, *folded.taps, *folded.preactivations),
        (plain.logits, *plain.taps, *plain.preactivations),
        strict=True,
    ):
        torch.testing.assert_close(found, wanted, rtol=0, atol=1e-4 * wanted.abs().max().item())
    assert all(torch.equal(before[key], value) for key, value in network.state_dict().items())
    kinds = [type(module).__name__ for module in frozen.modules()]
    assert kinds.count("BatchNorm2d") < [type(m).__name__ for m in network.modules()].count("BatchNorm2d")
    assert not any(p.requires_grad for p in frozen.parameters())


def test_without_preactivations_less_is_computed() -> None:
    network = build_network("wrn_16_1", 10).eval()
    whole, less = (FrozenNetwork(network, torch.float32, wanted) for wanted in (True, False))
    images = golden.images()
    with torch.inference_mode():
        assert less.features(images).preactivations == ()
        assert torch.equal(less.features(images).logits, whole.features(images).logits)
    assert len(less.graph.graph.nodes) < len(whole.graph.graph.nodes)


class Odd(Network):
    """What a user's network may do: a bias added to a map, a number, a map to itself, a small map to a large one."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = nn.Conv2d(3, 8, 3, padding=1), nn.Conv2d(8, 8, 3, padding="same")
        self.squeeze, self.third = nn.Conv2d(8, 8, 1), nn.Conv2d(8, 8, 3, padding=1, padding_mode="circular")
        self.fc = nn.Linear(8, 10)

    def features(self, images: torch.Tensor) -> Features:
        x = F.relu(self.first(images) + 0.5)
        x = F.relu(self.second(x) + x)
        x = self.squeeze(x.mean((2, 3), keepdim=True)) + x
        y = self.first(images)
        x = F.relu(self.third(x) + (y + y))
        vector = x.mean((2, 3))
        return Features(self.fc(vector), (x, vector), (x, vector))


def test_a_network_of_odd_sums_agrees() -> None:
    network, images = Odd().eval(), golden.images()
    with torch.inference_mode():
        found, wanted = FrozenNetwork(network, torch.float32).features(images), network.features(images)
    torch.testing.assert_close(found.taps, wanted.taps, rtol=1e-4, atol=1e-5)


def test_bf16_is_as_near_as_autocast() -> None:
    """Against fp32, folded bf16 weights are not worse than autocast's by more than half."""
    network = build_network("resnet20", 10)
    network.train()(torch.randn(64, 3, 32, 32))
    network.eval()
    images = torch.randn(64, 3, 32, 32)
    with torch.inference_mode():
        exact = network(images)
        folded = FrozenNetwork(network, torch.bfloat16).features(images).logits.float()
        with torch.autocast("cpu", torch.bfloat16):
            cast = network(images).float()
    assert (folded - exact).norm() < 1.5 * (cast - exact).norm()
