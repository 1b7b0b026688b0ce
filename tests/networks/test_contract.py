"""A network of a user's own is tried on random images before anything trains, and what breaks the contract is named."""

from collections.abc import Callable
from contextlib import nullcontext
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from sskd.config.pretrained import FromFile
from sskd.errors import UserError
from sskd.networks import NETWORKS, Features, Network
from sskd.networks.contract import check_network
from sskd.runs import trial
from sskd.runs.trial import try_networks
from tests import small


class Plain(nn.Module):
    """A module that gives logits; what is wrong with it is done in ``end``."""

    def __init__(self, classes: int, end: Callable[[Any, Tensor], Any] = lambda self, logits: logits) -> None:
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(3, 8, 3, 2, 1), nn.BatchNorm2d(8), nn.ReLU())
        self.fc = nn.Linear(8, classes)
        self.end = end

    def forward(self, images: Tensor) -> Any:
        return self.end(self, self.fc(self.stem(images).mean((2, 3))))


class Whole(Network):
    """One with features; what is wrong with them is done in ``end``."""

    def __init__(self, classes: int, end: Callable[[Any, Features], Any] = lambda self, features: features) -> None:
        super().__init__()
        self.conv, self.bn, self.fc = nn.Conv2d(3, 8, 3, 2, 1), nn.BatchNorm2d(8), nn.Linear(8, classes)
        self.end = end

    def features(self, images: Tensor) -> Any:
        before = self.bn(self.conv(images))
        last = before.relu()
        pooled = last.mean((2, 3))
        return self.end(self, Features(self.fc(pooled), (last,), pooled, (before,), last))


def tried(entry: Any) -> None:
    NETWORKS._entries["made"] = entry
    try_networks(small.spec(small.teacher(network="made")), 16, 10)


def tied(classes: int) -> nn.Module:
    network = Plain(classes)
    network.head = nn.Linear(8, classes)
    network.head.weight = network.fc.weight
    return network


def expanded(classes: int) -> nn.Module:
    network = Plain(classes)
    network.register_buffer("one", torch.ones(3))
    network.register_buffer("part", network.one[:2])  # type: ignore[index]
    return network


def lazy(classes: int) -> nn.Module:
    return nn.Sequential(nn.LazyConv2d(8, 3), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, classes))


def frozen(classes: int) -> nn.Module:
    return Plain(classes).requires_grad_(False)


class MadeInForward(Plain):
    def forward(self, images: Tensor) -> Any:
        logits = super().forward(images)
        if not hasattr(self, "more"):
            self.more = nn.Linear(1, 1)
        return logits


class OtherForward(Whole):
    def forward(self, images: Tensor) -> Tensor:
        return -super().forward(images)


class Branching(Whole):
    def features(self, images: Tensor) -> Any:
        return super().features(images if images.mean() > -9 else -images)


def ends(end: Any, kind: Any = Plain) -> Any:
    return lambda classes: kind(classes, end)


def nan_in_eval(self: Any, logits: Tensor) -> Tensor:
    return logits if self.training else logits / 0 * 0


BROKEN: dict[str, tuple[Any, str]] = {
    "a tuple in train mode": (ends(lambda self, y: (y, y) if self.training else y), "a tuple; expected logits"),
    "a dict": (ends(lambda self, y: {"out": y}), "a dict; expected logits"),
    "lazy layers": (lazy, "no shape yet"),
    "tied weights": (tied, "share memory.*(fc|head).weight"),
    "buffers that share memory": (expanded, "cannot be saved"),
    "NaN in eval mode": (ends(nan_in_eval), "logits in eval mode: NaN"),
    "infinite in train mode": (ends(lambda self, y: y / 0 if self.training else y), "logits in train mode: NaN"),
    "too few classes": (ends(lambda self, y: y[:, 1:]), r"shape \(4, 9\), not \(4, 10\)"),
    "one image squeezed": (ends(lambda self, y: y.squeeze()), r"for 1 image in eval mode|expected logits"),
    "half precision": (ends(lambda self, y: y.half()), "torch.float16"),
    "detached": (ends(lambda self, y: y.detach()), "no gradient"),
    "frozen": (frozen, "nothing to train"),
    "a layer made in its forward pass": (MadeInForward, "adds or removes more"),
    "raises in train mode": (ends(lambda self, y: y if not self.training else self.missing), "AttributeError"),
    "forward disagrees": (OtherForward, r"forward\(\) and its features\(\)"),
    "features are a tuple": (ends(lambda self, f: tuple(f), Whole), "not Features"),
    "no tuple of maps": (ends(lambda self, f: f._replace(feature_maps=None), Whole), "feature_maps"),
    "pooled features that are a map": (ends(lambda self, f: f._replace(pooled=f.pre_pool), Whole), "pooled features"),
    "too few preactivations": (ends(lambda self, f: f._replace(preactivations=()), Whole), "0 preactivations"),
    "preactivations of another shape": (
        ends(lambda self, f: f._replace(preactivations=(f.pooled,)), Whole),
        "preactivation 0",
    ),
    "another map before pooling": (ends(lambda self, f: f._replace(pre_pool=-f.pre_pool), Whole), "pre_pool map"),
    "not traceable, as a teacher": (Branching, "foldable = False"),
}


@pytest.mark.parametrize("kind", BROKEN)
def test_a_network_that_breaks_the_contract_is_refused(kind: str) -> None:
    entry, problem = BROKEN[kind]
    with pytest.raises(UserError, match=problem) as error:
        tried(entry)
    assert "network 'made' (test_contract.py, line " in str(error.value)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("entry", [Plain, Whole])
def test_what_keeps_the_contract_is_taken(entry: Any) -> None:
    before = torch.get_rng_state()
    tried(entry)
    assert torch.equal(torch.get_rng_state(), before)


def test_a_student_need_not_be_traceable_and_a_teacher_may_say_that_it_is_not() -> None:
    given = FromFile(network="resnet8", weights="any.pth").model_dump()
    NETWORKS._entries["made"] = Branching
    try_networks(small.spec(small.student("kd", network="made", teacher=given)), 16, 10)
    tried(type("Said", (Branching,), {"foldable": False}))


@pytest.mark.parametrize(("committed", "dirty"), [(True, True), (False, None), (False, True)])
def test_a_file_of_the_suite_is_tried_where_no_commit_has_it(
    committed: bool, dirty: bool | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """dirty: None where there is no git, which then knows nothing of any file."""
    monkeypatch.setattr(trial, "code", lambda: {"dirty": dirty})
    monkeypatch.setattr(trial, "_is_committed", lambda module: committed)
    NETWORKS._entries["made"] = made = type("Made", (OtherForward,), {"__module__": "sskd.networks.made"})
    assert made
    with pytest.raises(UserError, match="network 'made'") if dirty and not committed else nullcontext():
        try_networks(small.spec(small.teacher(network="made")), 16, 10)


@pytest.mark.parametrize("name", ["resnet8", "wrn_16_1"])
def test_the_suites_own_networks_keep_it(name: str) -> None:
    with torch.random.fork_rng():
        check_network(name, small.spec(small.teacher()).used_as, 10, 32, teaches=True)
