"""Batch norm with what follows it, in C: the numbers are torch's, and torch does it where the C cannot."""

import copy
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.nn import functional as F

from sskd import native
from sskd.networks import NETWORKS, Features, Network, build_network
from sskd.networks.frozen import training_form
from sskd.networks.fusion import FusedNorm
from sskd.networks.norm import Scaled, normed
from tests import golden

pytestmark = pytest.mark.skipif(native.library() is None, reason="there is no C compiler here")

SHAPES = [(6, 16, 8, 8), (5, 32, 2, 6), (7, 64, 3, 5), (4, 192, 2, 2), (300, 16, 4, 4)]


def _norm(channels: int) -> nn.BatchNorm2d:
    norm = nn.BatchNorm2d(channels)
    nn.init.normal_(norm.weight)
    nn.init.normal_(norm.bias)
    return norm


def _maps(*shape: int, dtype: torch.dtype = torch.float32) -> Tensor:
    """With means and deviations of their own in each channel, in channels-last."""
    maps = torch.randn(shape) * torch.rand(shape[1], 1, 1).add(0.5) + 3 * torch.randn(shape[1], 1, 1)
    return maps.to(dtype).to(memory_format=torch.channels_last)


def _all(norm: nn.BatchNorm2d, x: Tensor, other: Tensor | None, relu: bool, g: Tensor, ours: bool) -> list[Tensor]:
    """Result, gradients of everything, running statistics."""
    norm = copy.deepcopy(norm).to(torch.float32 if ours else torch.float64)
    x, other = (None if m is None else m.detach().to(m.dtype if ours else torch.float64) for m in (x, other))
    leaves = [m.requires_grad_() for m in (x, other) if m is not None]
    if ours:
        y = normed(norm, x, other, relu)
    else:
        y = norm(x) if other is None else norm(x) + other
        y = F.relu(y) if relu else y
    y.backward(g.to(y.dtype))
    gradients = [leaf.grad for leaf in (*leaves, norm.weight, norm.bias)]
    return [m.double() for m in (y.detach(), *gradients, norm.running_mean, norm.running_var)]


@pytest.mark.parametrize(("dtype", "step"), [(torch.float32, 1e-5), (torch.bfloat16, 2**-7)], ids=["fp32", "bf16"])
@pytest.mark.parametrize("relu", [True, False])
@pytest.mark.parametrize("added", [True, False])
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_is_batch_norm(shape: tuple[int, ...], added: bool, relu: bool, dtype: torch.dtype, step: float) -> None:
    torch.manual_seed(0)
    norm, x, g = _norm(shape[1]), _maps(*shape, dtype=dtype), _maps(*shape, dtype=dtype)
    other = _maps(*shape, dtype=dtype) if added else None
    if relu:  # the gradient must not hang on rounding: what is next to zero lets none through
        exact = _all(norm, x, other, False, g, ours=False)[0]
        g = torch.where(exact.abs() < 0.05, 0.0, g).to(memory_format=torch.channels_last)
    found = _all(norm, x, other, relu, g, ours=True)
    wanted = _all(norm, x, other, relu, g, ours=False)
    for ours, exact in zip(found, wanted, strict=True):
        torch.testing.assert_close(ours, exact, rtol=step, atol=step * exact.abs().max().item())


@settings(deadline=None, max_examples=30)
@given(st.floats(-1e3, 1e3), st.floats(1e-2, 1e2), st.integers(1, 4), st.integers(0, 2**31))
def test_statistics_far_from_zero(mean: float, deviation: float, threads: int, seed: int) -> None:
    x = torch.randn(8, 16, 4, 4, generator=torch.Generator().manual_seed(seed)) * deviation + mean
    x, norm = x.to(memory_format=torch.channels_last), nn.BatchNorm2d(16, momentum=1.0)
    before = torch.get_num_threads()
    try:
        torch.set_num_threads(threads)
        normed(norm, x)
    finally:
        torch.set_num_threads(before)
    torch.testing.assert_close(norm.running_mean, x.double().mean((0, 2, 3)).float(), rtol=1e-5, atol=1e-5 * deviation)
    torch.testing.assert_close(norm.running_var, x.double().var((0, 2, 3)).float(), rtol=1e-4, atol=1e-12)


def test_what_is_no_number_is_not_hidden() -> None:
    x = _maps(4, 16, 4, 4)
    x[1, 3, 2, 2] = float("nan")
    assert normed(_norm(16), x)[:, 3].isnan().all()


@pytest.mark.parametrize(
    "norm",
    [_norm(12), nn.BatchNorm2d(16, affine=False), nn.BatchNorm2d(16, momentum=None), _norm(16).eval()],
    ids=["12 channels", "no weights", "cumulative", "eval"],
)
def test_torch_does_what_the_c_cannot(norm: nn.BatchNorm2d) -> None:
    x, other = _maps(4, norm.num_features, 5, 5), _maps(4, norm.num_features, 5, 5)
    reference = copy.deepcopy(norm)
    assert torch.equal(normed(norm, x, other), F.relu(reference(x) + other))
    for name, buffer in reference.named_buffers():
        assert torch.equal(buffer, norm.get_buffer(name))


def test_a_batch_of_one_value_is_torchs_error() -> None:
    with pytest.raises(ValueError, match="more than 1 value"):
        normed(_norm(64), torch.zeros(1, 64, 1, 1))


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
def test_a_norm_in_eval_mode_is_one_pass(dtype: torch.dtype) -> None:
    norm, x = _norm(16), _maps(4, 16, 4, 4, dtype=dtype)
    norm(x.float())
    norm.eval()
    step = 1e-6 if dtype == torch.float32 else 2**-7
    with torch.inference_mode():
        torch.testing.assert_close(Scaled(norm)(x).float(), F.relu(norm(x.float())), rtol=step, atol=step)


@pytest.mark.parametrize("name", ["resnet14", "wrn_16_1", "vgg8", "ResNet50", "ShuffleV1", "ShuffleV2", "MobileNetV2"])
def test_a_network_in_training_learns_the_same(name: str) -> None:
    """Every map, every gradient and every running statistic, pre-activations asked for or not."""
    network, images = build_network(name, 10).to(memory_format=torch.channels_last), golden.images(4)
    for wanted in (True, False):
        plain, ours = copy.deepcopy(network), copy.deepcopy(network)
        form = training_form(ours.eval(), preactivations=wanted)
        assert not ours.training
        assert any(isinstance(module, FusedNorm) for module in form.modules())  # type: ignore[attr-defined]
        ours.train()
        theirs, found = plain.train().features(images), form(images)
        assert len(found.preactivations) == (len(theirs.preactivations) if wanted else 0)
        maps = list(zip((found.logits, *found.taps), (theirs.logits, *theirs.taps), strict=True))
        maps += list(zip(found.preactivations, theirs.preactivations, strict=wanted))
        maps += [(b.float(), c.float()) for b, c in zip(ours.buffers(), plain.buffers(), strict=True)]
        for features in (theirs, found):
            (features.logits.square().mean() + sum(tap.square().mean() for tap in features.taps)).backward()
        gradients = [(p.grad, q.grad) for p, q in zip(ours.parameters(), plain.parameters(), strict=True)]
        # a rounding may open a ReLU that was closed: gradients are not as near
        for pairs, step in ((maps, 1e-4), (gradients, 0.06)):
            for left, right in pairs:
                assert (left - right).norm() <= step * right.norm() + 1e-6


class Twice(Network):
    """A norm's result to itself, to a number, and to a map of another size; a ReLU that is not its only user."""

    def __init__(self) -> None:
        super().__init__()
        self.norms = nn.ModuleList(nn.BatchNorm2d(16) for _ in range(4))
        self.conv, self.fc = nn.Conv2d(3, 16, 3, padding=1), nn.Linear(16, 10)

    def features(self, images: Tensor) -> Features:
        x = self.conv(images)
        first = self.norms[0](x)
        x = F.relu(first + first)
        x = F.relu(self.norms[1](x) + 0.5)
        x = F.relu(self.norms[2](x) + x.mean((2, 3), keepdim=True))
        last = self.norms[3](x)
        vector = (F.relu(last) + last).mean((2, 3))
        return Features(self.fc(vector), (x, vector), (x, vector))


def test_what_cannot_be_fused_is_left_alone() -> None:
    plain, images = Twice().to(memory_format=torch.channels_last), golden.images(4)
    ours = copy.deepcopy(plain)
    found, wanted = training_form(ours, preactivations=False)(images), plain.features(images)
    torch.testing.assert_close(found.taps, wanted.taps, rtol=1e-4, atol=1e-5)
    for name, buffer in plain.named_buffers():
        torch.testing.assert_close(ours.get_buffer(name), buffer)


class Undecided(Network):
    """torch.fx cannot trace it."""

    def __init__(self) -> None:
        super().__init__()
        self.fc = nn.Linear(3, 10)

    def features(self, images: Tensor) -> Features:
        vector = images.mean((2, 3)) if images.sum() > 0 else images.amax((2, 3))
        return Features(self.fc(vector), (vector,), (vector,))


def test_what_cannot_be_traced_runs_as_it_is() -> None:
    network = Undecided().eval()
    assert training_form(network)(golden.images()).logits.shape == (2, 10)
    assert not network.training


def test_without_a_compiler_there_is_none(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    for compiler in ("false", "no-such-compiler"):
        monkeypatch.setenv("CC", compiler)
        native._compiled.cache_clear()
        assert native.library() is None
        x = _maps(4, 16, 4, 4)
        assert torch.equal(normed(nn.BatchNorm2d(16), x), F.relu(nn.BatchNorm2d(16)(x)))
    monkeypatch.undo()
    native._compiled.cache_clear()
    assert native.library() is not None


def test_it_can_be_forbidden() -> None:
    native.allow(False)
    try:
        assert native.library() is None
    finally:
        native.allow(True)


def test_all_published_networks_have_a_training_form() -> None:
    for name in NETWORKS:
        assert hasattr(training_form(build_network(name, 10)), "graph"), name
