"""torchvision's and timm's networks and a module of one's own, as teacher or student."""

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import torchvision
from torch import nn
from torch.nn import functional as F
from torchvision.models import VisionTransformer
from torchvision.models.feature_extraction import create_feature_extractor

from sskd.config.networks import NetworkSettings
from sskd.errors import UserError
from sskd.methods import METHODS, check_pair
from sskd.networks import NETWORKS, build_network, feature_shapes
from sskd.networks.hooked import HookedNetwork
from sskd.networks.weights import load_network
from sskd.runs.settings import method_settings
from sskd.runs.spec import RunSpec
from sskd.runs.trained import load_student
from tests import small

STAGES = ("layer1", "layer2", "layer3", "layer4")
MAPS = NetworkSettings(taps=("relu", *STAGES), pooled="layer4")
RESNET = "torchvision:resnet18"
VIT = "tiny_vit"


@pytest.fixture(autouse=True)
def _a_transformer_of_the_users() -> None:
    """Registered for the test alone (see conftest): two layers, for images of 16 x 16."""

    @NETWORKS.register(VIT)
    def tiny_vit(num_classes: int) -> VisionTransformer:
        net = VisionTransformer(16, 4, num_layers=2, num_heads=2, hidden_dim=16, mlp_dim=32, num_classes=num_classes)
        net.heads.head.reset_parameters()  # torchvision's are zero: every image would have the same logits
        return net


def images(size: int, batch: int = 2) -> torch.Tensor:
    return torch.randn(batch, 3, size, size, generator=torch.Generator().manual_seed(0))


@pytest.fixture
def resnet() -> HookedNetwork:
    torch.manual_seed(0)
    network = build_network(RESNET, 10, MAPS).eval()
    assert isinstance(network, HookedNetwork)
    return network


def test_maps_are_those_of_torchvisions_feature_extraction(resnet: HookedNetwork) -> None:
    found = resnet.features(images(64))
    theirs = create_feature_extractor(resnet.network, [*STAGES, "flatten", "fc"])(images(64))
    for ours, name in zip((*found.feature_maps[1:], found.pooled), [*STAGES, "flatten"], strict=True):
        torch.testing.assert_close(ours, theirs[name])
    torch.testing.assert_close(found.logits, theirs["fc"])
    torch.testing.assert_close(found.pre_pool, theirs["layer4"])
    assert not resnet.network._forward_hooks
    assert resnet.classifier_layer is resnet.network.fc
    assert resnet.network.fc not in resnet.feature_layers()
    assert resnet.network.layer4 in resnet.feature_layers()


def test_a_map_is_what_its_module_gave_before_the_next_changes_it_in_place() -> None:
    class Overwrites(nn.Module):
        def __init__(self, num_classes: int) -> None:
            super().__init__()
            self.conv, self.relu, self.fc = nn.Conv2d(3, 8, 3), nn.ReLU(inplace=True), nn.Linear(8, num_classes)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.fc(self.relu(self.conv(x)).mean((2, 3)))

    module = Overwrites(5)
    found = HookedNetwork("own", module, 5, NetworkSettings(taps=("conv",)), None).features(images(8))
    assert torch.equal(found.feature_maps[0], module.conv(images(8)))
    assert found.feature_maps[0].min() < 0


def test_a_vision_transformer_gives_its_class_token_and_tokens_as_maps() -> None:
    settings = NetworkSettings(taps=("encoder.layers.encoder_layer_0",))
    network = build_network(VIT, 10, settings).eval()
    module: Any = network.get_submodule("network")
    found = network.features(images(16))
    torch.testing.assert_close(found.logits, module(images(16)))
    torch.testing.assert_close(found.logits, module.heads.head(found.pooled))
    (tokens,) = (
        value
        for value in create_feature_extractor(module, {"encoder.layers.encoder_layer_0.add_1": "tokens"})(
            images(16)
        ).values()
    )
    torch.testing.assert_close(found.feature_maps[0][1, :, 2, 3], tokens[1, 1 + 2 * 4 + 3])
    assert feature_shapes(VIT, 16, settings).feature_maps == ((16, 4, 4),)


def test_images_are_resized_to_what_a_network_wants() -> None:
    """The network has no setting; test_own_images has networks with one."""
    network = build_network(VIT, 10).eval()
    module: Any = network.get_submodule("network")
    wanted = module(F.interpolate(images(32), (16, 16), mode="bilinear", antialias=True))
    torch.testing.assert_close(network(images(32)), wanted)


@pytest.mark.parametrize(
    ("name", "width"),
    {
        "torchvision:vit_b_16": 768,
        "torchvision:vgg11": 4096,
        "torchvision:squeezenet1_1": 512,  # its classifier is a convolution
        "torchvision:densenet121": 1024,
        "torchvision:mobilenet_v3_small": 1024,
        "torchvision:convnext_tiny": 768,
        "torchvision:swin_t": 768,
        "torchvision:efficientnet_b0": 1280,
    }.items(),
)
def test_families_of_torchvision(name: str, width: int) -> None:
    assert feature_shapes(name, 32)[1:3] == ((), width)


WITH_TIMM = pytest.mark.skipif(not __import__("importlib.util").util.find_spec("timm"), reason="timm is not installed")


@WITH_TIMM
@pytest.mark.parametrize("name", ["timm:test_vit", "timm:test_resnet", "timm:test_convnext", "timm:test_efficientnet"])
def test_families_of_timm(name: str) -> None:
    network = build_network(name, 7).eval()
    found = network.features(images(32))
    assert found.logits.shape == (2, 7)
    assert found.pooled.shape[1] == feature_shapes(name, 32).embed_dim
    module: Any = network.get_submodule("network")
    torch.testing.assert_close(found.logits, module.get_classifier()(found.pooled))


@WITH_TIMM
def test_a_transformer_of_timm_is_built_for_the_size_that_is_asked_for() -> None:
    network: Any = build_network("timm:test_vit", 7, NetworkSettings(image_size=32, taps=("blocks.0",)))
    assert network.network.patch_embed.img_size == (32, 32)
    assert feature_shapes("timm:test_vit", 64, NetworkSettings(image_size=32, taps=("blocks.0",))).feature_maps[0][
        1:
    ] == (2, 2)


def test_timm_that_is_not_there(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "timm", None)
    with pytest.raises(UserError, match=r"timm, which is not installed: pip install 'sskd\[timm\]'"):
        NETWORKS["timm:resnet18"]


class Unused(nn.Module):
    """A module that does not call its classifier."""

    def __init__(self) -> None:
        super().__init__()
        self.fc = nn.Linear(3, 5)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x.mean((2, 3)) @ self.fc.weight.T


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: build_network("torchvision:resnt18", 10), "no network 'resnt18'; did you mean 'torchvision:resnet18'"),
        (
            lambda: build_network(RESNET, 10, NetworkSettings(taps=("layr1",))),
            "no module 'layr1'; did you mean 'layer1'",
        ),
        (lambda: build_network("resnet8", 10, NetworkSettings(taps=("layer1",))), "taps and pooled only apply"),
        (
            lambda: feature_shapes(RESNET, 32, NetworkSettings(taps=("fc",))),
            r"tensor of shape \(1, 2\); expected a map",
        ),
        (
            lambda: feature_shapes("torchvision:squeezenet1_1", 32, NetworkSettings(pooled="features.3")),
            "not the spatial mean of 'features.3'",
        ),
        (lambda: HookedNetwork("own", nn.Linear(4, 5), 3, NetworkSettings(), None), "no linear layer with 3 outputs"),
        (
            lambda: HookedNetwork("own", Unused(), 5, NetworkSettings(), None).features(images(8)),
            "did not call its module 'fc'",
        ),
    ],
)
def test_names_settings_and_modules_that_are_wrong(make: Callable[[], Any], message: str) -> None:
    with pytest.raises(UserError, match=message):
        make()


@pytest.mark.parametrize("name", ["resnet18", "mobilenet_v3_small"])
def test_weights_from_a_file_of_torchvisions_or_of_a_run(name: str, tmp_path: Path) -> None:
    """The latter's classifier.0 is what CRD's checkpoints call their only layer."""
    theirs = torchvision.models.get_model(name, num_classes=10)
    torch.save(theirs.state_dict(), tmp_path / "theirs.pth")
    ours: Any = load_network(tmp_path / "theirs.pth", f"torchvision:{name}", 10)
    assert all(torch.equal(value, theirs.state_dict()[key]) for key, value in ours.network.state_dict().items())
    torch.save(ours.state_dict(), tmp_path / "saved.pth")
    again: Any = load_network(tmp_path / "saved.pth", f"torchvision:{name}", 10)
    assert all(torch.equal(value, again.state_dict()[key]) for key, value in ours.state_dict().items())


NO_MAPS = {"logits", "pooled", "labels", "indices"}


@pytest.mark.parametrize("method", [name for name in METHODS if METHODS[name].info.year])
def test_a_method_takes_a_transformer_as_teacher_or_says_what_it_lacks(method: str) -> None:
    student, teacher = feature_shapes("resnet8", 16), feature_shapes(VIT, 16)
    maps = method == "wkdl" or not METHODS[method].required_features <= NO_MAPS  # wkdl's are before it trains
    if not maps:
        check_pair(method_settings(method), student, teacher)
    else:
        with pytest.raises(UserError, match=VIT):
            check_pair(method_settings(method), student, teacher)


def test_what_maps_by_name_are_enough_for() -> None:
    ours, theirs = feature_shapes("torchvision:resnet18", 32, MAPS), feature_shapes("torchvision:resnet34", 32, MAPS)
    refused = {}
    for method in METHODS:
        try:
            check_pair(method_settings(method), ours, theirs)
        except UserError as error:
            refused[method] = str(error)
    assert refused.keys() == {"ab", "reviewkd", "hsakd", "ofd", "fcfd", "wkdf"}
    assert "needs maps before their ReLU" in refused["ab"]
    assert "needs maps before their ReLU" in refused["reviewkd"]


def test_names_in_specs() -> None:
    data = small.student("kd", network="torchvision:resnet18")
    assert small.spec(data).id.startswith("student-torchvision-resnet18-kd-digits-s0-")
    plain = small.spec(small.student("kd"))
    assert small.spec(small.student("kd", network_settings={})).id == plain.id
    sized = small.student("kd", network_settings={"image_size": 16})
    assert small.spec(sized).id != plain.id
    for name in ("hub:resnet18", "torchvision:../resnet18", "torchvision:"):
        with pytest.raises(UserError, match="network"):
            small.spec(small.student("kd", network=name))
    with pytest.raises(UserError, match="unknown key 'network_settings'"):
        small.spec(small.head(network_settings={"image_size": 16}))
    given = {"network": "resnet8", "weights": "a.pth", "network_settings": {"image_size": 16}}
    measured = {"role": "teacher", "network": "resnet8", "dataset": {"name": "digits"}, "teacher": given}
    assert small.spec(measured).used_as.image_size == 16
    with pytest.raises(UserError, match="network_settings"):
        small.spec(measured | {"network_settings": {"image_size": 16}})


def spec(method: str, pair: tuple[Any, Any]) -> RunSpec:
    """A student of digits of 16 x 16 whose teacher is trained too; pair: teacher and student, name and settings."""
    sides = [
        {"network": name, "network_settings": settings, "dataset": {"name": "digits16"}} for name, settings in pair
    ]
    teacher = {"run": small.teacher(**sides[0])}
    head = small.head(network=pair[0][0], dataset={"name": "digits16"}, teacher=teacher)
    more = {"head": head} if METHODS[method].needs_head else {}
    return small.spec(small.student(method, teacher=teacher, **sides[1], **more))


SMALL_MAPS = {"taps": ["relu", *STAGES], "pooled": "layer4", "image_size": 32}
TRAINED = {
    "a transformer teaches with a head": ("sskd", (VIT, {}), ("resnet8", {})),
    "a transformer learns": ("crd", ("resnet8", {"image_size": 32}), (VIT, {})),
    "maps of torchvision's": ("simkd", (RESNET, SMALL_MAPS), ("resnet8", {})),
    "a student of torchvision's": ("at", ("resnet8", {}), (RESNET, SMALL_MAPS | {"taps": STAGES[:4]})),
}


@pytest.mark.parametrize("case", TRAINED)
def test_trains_and_loads(case: str, tmp_path: Path) -> None:
    method, teacher, student = TRAINED[case]
    wanted = spec(method, (teacher, student))
    result = small.train_all(wanted, tmp_path)
    from sskd.data.datasets.registry import load_dataset

    data = load_dataset(wanted.dataset, Path("data"))
    network, info = load_student(tmp_path / wanted.id, "last")
    with torch.inference_mode():
        right = network(info.normalise(data.test_images)).argmax(1) == data.test_labels
    assert 100 * right.float().mean().item() == pytest.approx(result["last"]["test_top1"], abs=0.01)
