"""Methods with real networks: a student around the student, stages one after the other, saved weights."""

from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor, nn

from sskd.methods import METHODS, MethodContext
from sskd.methods.catkd import class_maps
from sskd.methods.fcfd import classified, frozen_running_statistics
from sskd.methods.norm import Expanded
from sskd.networks import Network, build_network, feature_shapes
from sskd.runs.settings import method_settings
from sskd.training.setup import prepare
from sskd.training.tasks import build_task
from tests import small

FAMILIES = ["resnet8", "wrn_16_1", "MobileNetV2", "ShuffleV2"]
IMAGES = torch.randn(2, 3, 32, 32, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize("name", [*FAMILIES, "ShuffleV1", "vgg8", "ResNet50", "resnet18", "resnet50", "mobilenet_v1"])
def test_feature_layers_are_what_the_maps_depend_on_and_stages_are_the_network(name: str) -> None:
    """Every feature layer gets a gradient from the last map; what is left out gets none."""
    network = build_network(name, 4).eval()
    features = network.features(IMAGES)
    features.feature_maps[-1].square().sum().backward(retain_graph=True)
    trained = {id(p) for layer in network.feature_layers() for p in layer.parameters()}
    assert trained == {id(p) for p in network.parameters() if p.grad is not None}
    maps: Tensor = features.feature_maps[0]
    for number, wanted in enumerate(network.stage_maps(features), start=1):
        maps = network.run_stage(number, maps)
        torch.testing.assert_close(maps, wanted, rtol=1e-4, atol=1e-6)
    torch.testing.assert_close(classified(network, maps), features.logits, rtol=1e-4, atol=1e-12)
    assert network.stages_active == (network.stage_maps(features)[0].min() >= 0)
    assert feature_shapes(name).staged


def test_paths_leave_running_averages_alone() -> None:
    network = build_network("resnet8", 4)
    before = {name: value.clone() for name, value in network.state_dict().items()}
    with frozen_running_statistics(network):
        network(IMAGES)
    assert all(torch.equal(value, before[name]) for name, value in network.state_dict().items())
    network(IMAGES)
    assert not torch.equal(network.bn1.running_mean, before["bn1.running_mean"])


@pytest.mark.parametrize("name", [*FAMILIES, "vgg8"])
def test_norms_student_is_the_student_where_nothing_is_added(name: str) -> None:
    plain = build_network(name, 4).eval()
    wanted = plain(IMAGES)
    widened = Expanded(plain, feature_shapes(name), 16).eval()
    assert not torch.equal(widened(IMAGES), wanted)
    nn.init.zeros_(widened.contract[1].weight)
    torch.testing.assert_close(widened(IMAGES), wanted, rtol=1e-4, atol=1e-12)


def real(name: str, student: str) -> tuple[Any, Network, Network]:
    """The method for a real student of vgg8, the network that it trains, and the teacher."""
    network, teacher = build_network(student, 4), build_network("vgg8", 4).eval()
    shapes = feature_shapes(student), feature_shapes("vgg8")
    context = MethodContext(network, shapes[0], 4, torch.arange(8) % 4, teacher, shapes[1])
    method = METHODS[name](method_settings(name), context)
    return method, method.predictor(network), teacher


@pytest.mark.parametrize("student", FAMILIES)
def test_simkds_student_keeps_only_what_predicts(student: str) -> None:
    """Saved weights predict the same in a network built anew; the student's own classifier is not among them."""
    _, network, teacher = real("simkd", student)
    names = network.state_dict().keys()
    own = build_network(student, 4)
    unused = own.tail if student in ("MobileNetV2", "ShuffleV2") else own.tail[-1:]
    kept = sum(p.numel() for name, p in own.named_parameters() if name.split(".")[0] not in unused)
    width, wanted = feature_shapes(student).feature_maps[-1][0], 512
    projected = width * 256 + 9 * 256 * 256 + 256 * wanted + 2 * (256 + 256 + wanted)
    assert sum(p.numel() for p in network.parameters()) == kept + projected + wanted * 4 + 4
    assert not any(name.startswith(tuple(f"student.{layer}." for layer in unused)) for name in names)
    assert torch.equal(network.classifier_layer.weight, teacher.classifier_layer.weight)
    assert not any(p.requires_grad for p in network.classifier_layer.parameters())
    again = real("simkd", student)[1]
    again.load_state_dict(network.state_dict())
    assert torch.equal(again.eval()(IMAGES), network.eval()(IMAGES))


@pytest.mark.parametrize("student", FAMILIES)
def test_catkds_student_has_no_bias_and_its_logits_are_its_class_maps_means(student: str) -> None:
    method, network, _ = real("catkd", student)
    features = network.features(IMAGES)
    maps = class_maps(features.pre_pool, network.classifier_layer)  # type: ignore[arg-type]
    torch.testing.assert_close(maps.mean((2, 3)), features.logits)
    assert not network.classifier_layer.bias.requires_grad
    assert not list(method.parameters())


@pytest.mark.parametrize("method", ["simkd", "catkd"])
def test_saved_weights_are_those_that_were_measured(method: str, runs: Path, tmp_path: Path) -> None:
    """Built anew from the spec, with the saved weights: the same accuracy and as many parameters."""
    wanted = small.spec(small.student(method))
    small.link_needs(runs, tmp_path, wanted)
    result = small.train_all(wanted, tmp_path)
    job = build_task(prepare(wanted, tmp_path, small.EXECUTION))
    assert sum(p.numel() for p in job.output.parameters()) == result["parameters"]
    job.output.load_state_dict(load_file(tmp_path / wanted.id / "last.safetensors"))
    assert job.evaluate()["top1"] == result["last"]["test_top1"]
