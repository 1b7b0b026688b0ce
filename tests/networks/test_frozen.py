"""The frozen teacher's fast form computes what the network does."""

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from sskd.methods.simkd import Projected, projector
from sskd.networks import Features, Network, build_network
from sskd.networks.folded import ConvAddReLU2d, FrozenNetwork
from sskd.networks.hooked import Resized
from tests import golden

# one of each family
FAMILIES = (
    "resnet8",
    "ResNet50",
    "wrn_16_1",
    "vgg8",
    "MobileNetV2",
    "ShuffleV1",
    "ShuffleV2",
    "resnet18",
    "mobilenet_v2",
)


def assert_agrees(network: Network, preactivations: bool = True) -> FrozenNetwork:
    """The frozen network computes what the network does, up to rounding."""
    frozen, images = FrozenNetwork(network, torch.float32, preactivations), golden.images()
    with torch.inference_mode():
        found, wanted = frozen.features(images), network.features(images)
    pairs = [(found.logits, wanted.logits), (found.pooled, wanted.pooled)]
    pairs += zip(found.feature_maps, wanted.feature_maps, strict=True)
    if preactivations:
        pairs += zip(found.preactivations, wanted.preactivations, strict=True)
    for ours, theirs in pairs:
        torch.testing.assert_close(ours, theirs, rtol=0, atol=1e-4 * theirs.abs().max().item())
    return frozen


def kinds(network: nn.Module) -> list[str]:
    return [type(module).__name__ for module in network.modules()]


@pytest.mark.parametrize("name", FAMILIES)
def test_agrees_in_fp32_and_leaves_the_network_alone(name: str) -> None:
    network = build_network(name, 10)
    network.train()(torch.randn(8, 3, 32, 32))  # running statistics that are not the initial ones
    network.eval()
    before = {key: value.clone() for key, value in network.state_dict().items()}
    frozen = assert_agrees(network)
    assert all(torch.equal(before[key], value) for key, value in network.state_dict().items())
    assert kinds(frozen).count("BatchNorm2d") < kinds(network).count("BatchNorm2d")
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
    """A network with unusual additions: a bias to a map, a number, a map to itself, a small map to a large one."""

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
        pooled = x.mean((2, 3))
        return Features(self.fc(pooled), (x,), pooled, (x,))


class Changing(Network):
    """A network that changes the added tensor in place between the convolution and the ReLU."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second, self.fc = nn.Conv2d(3, 8, 3), nn.Conv2d(8, 8, 3, padding=1), nn.Linear(8, 10)

    def features(self, images: torch.Tensor) -> Features:
        x = self.first(images)
        y = self.second(x)
        z = F.relu(x, inplace=True)
        x = F.relu(y + z)
        pooled = x.mean((2, 3))
        return Features(self.fc(pooled), (x,), pooled, (x,))


@pytest.mark.parametrize("kind", [Odd, Changing])
@pytest.mark.parametrize("preactivations", [True, False])
def test_unusual_networks_agree(kind: type[Network], preactivations: bool) -> None:
    assert_agrees(kind().eval(), preactivations)


def test_bf16_is_as_near_as_autocast() -> None:
    """Against fp32, folded bf16 weights are not worse than autocast's by more than half."""
    network = build_network("resnet8", 10)
    network.train()(torch.randn(32, 3, 32, 32))
    network.eval()
    images = torch.randn(32, 3, 32, 32)
    with torch.inference_mode():
        exact = network(images)
        folded = FrozenNetwork(network, torch.bfloat16).features(images).logits.float()
        with torch.autocast("cpu", torch.bfloat16):
            cast = network(images).float()
    assert (folded - exact).norm() < 1.5 * (cast - exact).norm()


# --- one call of cuDNN for a convolution, a sum and a ReLU ---------------------------------------------------------


class OnGPU(torch.Tensor):
    """A tensor on the CPU that says it is on a GPU."""

    is_cuda = True


def one_call(x: torch.Tensor, weight: torch.Tensor, *rest: object) -> torch.Tensor:
    """Computes what ``cudnn_convolution_relu`` computes."""
    return F.conv2d(x.as_subclass(torch.Tensor), weight, *rest).relu()  # type: ignore[arg-type]


def one_call_more(x: torch.Tensor, weight: torch.Tensor, z: torch.Tensor, alpha: float, *rest: object) -> torch.Tensor:
    """Computes what ``cudnn_convolution_add_relu`` computes, and is as strict about shapes."""
    total = F.conv2d(x.as_subclass(torch.Tensor), weight, *rest)  # type: ignore[arg-type]
    assert z.shape == total.shape
    return (total + alpha * z.as_subclass(torch.Tensor)).relu()


def refused(*args: object) -> torch.Tensor:
    raise RuntimeError("GET was unable to find an engine to execute this computation")


@pytest.mark.parametrize("layer", [nn.Conv2d(4, 6, 3, 2, 1), nn.Conv2d(4, 6, 1, groups=2), nn.Conv2d(4, 6, 3, 1, 2, 2)])
def test_on_a_gpu_it_is_one_call_where_there_is_one(layer: nn.Conv2d, monkeypatch: pytest.MonkeyPatch) -> None:
    x = torch.randn(2, 4, 9, 9)
    z = torch.randn_like(layer(x))
    small = torch.randn(2, 6, 1, 1)  # is broadcast, which cuDNN does not
    wanted = [F.relu(layer(x)), F.relu(layer(x) + z), F.relu(layer(x) + small)]
    images = x.as_subclass(OnGPU)

    monkeypatch.setattr(torch, "cudnn_convolution_relu", one_call)
    monkeypatch.setattr(torch, "cudnn_convolution_add_relu", one_call_more)
    joined = ConvAddReLU2d(layer)
    found = [joined(images), joined(images, z), joined(images, small)]
    assert joined.fused
    for ours, theirs in zip(found, wanted, strict=True):
        torch.testing.assert_close(ours.as_subclass(torch.Tensor), theirs)

    monkeypatch.setattr(torch, "cudnn_convolution_relu", refused)
    plain = joined(images)
    assert not joined.fused, "it is not tried at every step"
    assert torch.equal(plain.as_subclass(torch.Tensor), wanted[0])


def out_of_memory(*args: object) -> torch.Tensor:
    raise torch.OutOfMemoryError("CUDA out of memory")


def test_memory_that_ran_out_is_no_missing_kernel(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch, "cudnn_convolution_relu", out_of_memory)
    joined = ConvAddReLU2d(nn.Conv2d(4, 6, 3))
    with pytest.raises(torch.OutOfMemoryError):
        joined(torch.randn(2, 4, 9, 9).as_subclass(OnGPU))
    assert joined.fused


def test_a_resnets_relus_are_all_joined() -> None:
    """55 of resnet56's, its 27 sums among them; and none where somebody asks for what lies before the ReLU."""
    network = build_network("resnet56", 10).eval()
    less, whole = (FrozenNetwork(network, torch.float32, wanted) for wanted in (False, True))
    assert kinds(less).count("ConvAddReLU2d") == 55
    assert kinds(whole).count("ConvAddReLU2d") == 52  # each stage's last sum is a tap
    plain = [node for node in less.graph.graph.nodes if node.op == "call_function"]
    assert not [node for node in plain if "relu" in node.name or "add" in node.name]


def project(inner: Network) -> Network:
    return Projected(inner, projector(8, 3, 6), nn.Linear(6, 10), (4, 4))


AROUND = {
    "resized": lambda inner: Resized(inner, 12),
    "projected": project,
    "projected, then resized": lambda inner: Resized(project(inner), 12),
    "resized, then projected": lambda inner: project(Resized(inner, 12)),
}


@pytest.mark.parametrize("case", AROUND)
@pytest.mark.parametrize("able", [(True, True), (False, True), (True, False)])
def test_what_is_around_a_network_can_do_what_that_can(case: str, able: tuple[bool, bool]) -> None:
    class Final(Odd):
        foldable, gives_preactivations = able

        def features(self, images: torch.Tensor) -> Features:
            x = F.relu(self.first(images))
            return Features(self.fc(x.mean((2, 3))), (x,), x.mean((2, 3)), (x,), x)

    network = AROUND[case](Final()).eval()
    assert (network.foldable, network.gives_preactivations) == able
    if able[0]:
        assert_agrees(network, preactivations=False)
