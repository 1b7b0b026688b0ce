"""Golden losses, gradients and outputs of the methods of 2021 to 2023 that compare maps, on every pair of the paper."""

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from sskd.methods import METHODS, MethodContext
from sskd.methods.catkd import class_attention_loss
from sskd.methods.reviewkd import ReviewKD, hcl
from sskd.methods.simkd import Projected, projector
from sskd.networks import Features, FeatureShapes, Network, build_network, feature_shapes
from sskd.runs.settings import method_settings
from tests.golden import assert_golden, fill_parameters, tensor
from tests.methods.pairs import a_batch

STUDENT = [tensor(205, 12, 16, 16, 16), tensor(206, 12, 32, 8, 8), tensor(207, 12, 64, 4, 4), tensor(208, 12, 64)]
TEACHER = [tensor(209, 12, 32, 16, 16), tensor(210, 12, 64, 8, 8), tensor(211, 12, 128, 4, 4), tensor(212, 12, 128)]
LARGER = [tensor(213, 12, 32, 32, 32), tensor(214, 12, 64, 16, 16), tensor(215, 12, 128, 8, 8), tensor(212, 12, 128)]


def shapes_of(tensors: list[Tensor]) -> FeatureShapes:
    """Returns the shapes of maps and pooled features, with a first map that the method ignores."""
    *maps, (embed_dim, *_) = (tuple(tensor.shape[1:]) for tensor in tensors)
    return FeatureShapes("network", ((3, 2, 2), *maps), embed_dim)


@pytest.mark.parametrize(("golden", "teacher"), [("reviewkd", TEACHER), ("reviewkd_larger_teacher", LARGER)])
def test_reviewkd(golden: str, teacher: list[Tensor]) -> None:
    network = Network()
    context = MethodContext(network, shapes_of(STUDENT), 4, torch.arange(4), network, shapes_of(teacher))
    method = ReviewKD(method_settings("reviewkd"), context)
    fill_parameters(method, 220)
    student = [t.clone().requires_grad_() for t in STUDENT]
    assert_golden(golden, method.loss(student, teacher), student, list(method.parameters()))


def test_reviewkds_pyramid() -> None:
    student = [
        tensor(216, 12, 32, 32, 32).requires_grad_(),
        tensor(217, 12, 64, 16, 16).requires_grad_(),
        tensor(218, 12, 128, 8, 8).requires_grad_(),
    ]
    losses = [hcl(student_map, teacher_map) for student_map, teacher_map in zip(student, LARGER, strict=False)]
    assert_golden("reviewkd_pyramid_loss", torch.stack(losses).sum(), student)


class GivesMap(Network):
    """A network whose last map is what it is given."""

    def features(self, images: Tensor) -> Features:
        return Features(images, (images,), images, (images,), images)


@pytest.mark.parametrize(
    ("golden", "student_map", "teacher_map"),
    [
        ("simkd", tensor(260, 12, 64, 8, 8), tensor(261, 12, 128, 4, 4)),
        ("simkd_larger_teacher", tensor(262, 12, 64, 4, 4), tensor(263, 12, 128, 8, 8)),
    ],
)
def test_simkd(golden: str, student_map: Tensor, teacher_map: Tensor) -> None:
    classifier = nn.Linear(128, 100)
    classifier.weight.data = (2 / 128) ** 0.5 * tensor(279, 100, 128)
    classifier.bias.data = 0.1 * tensor(280, 100)
    project = projector(64, 128, factor=2)
    fill_parameters(project, 270)
    predictor = Projected(GivesMap(), project, classifier, (teacher_map.shape[2], teacher_map.shape[3]))
    student = student_map.clone().requires_grad_()
    found = predictor.features(student)
    method = METHODS["simkd"](
        method_settings("simkd"), MethodContext(predictor, shapes_of([student_map]), 4, torch.arange(4))
    )
    target = Features(teacher_map, (), teacher_map, (), teacher_map)
    loss = method.loss_terms(found, target, a_batch(torch.zeros(12, 3, 2, 2))).losses["simkd"]
    assert_golden(golden, loss, [student], list(project.parameters()), [found.logits])


@pytest.mark.parametrize("size", [2, 4])
@pytest.mark.parametrize("normalise", [False, True])
def test_catkd(size: int, normalise: bool) -> None:
    student, teacher = tensor(320, 12, 100, 4, 4).requires_grad_(), tensor(321, 12, 100, 8, 8)
    golden = f"catkd_{size}x{size}" + ("_normalised" if normalise else "")
    assert_golden(golden, class_attention_loss(student, teacher, size, normalise), [student])


def real(name: str, teacher: str, student: str, classes: int = 4) -> tuple[Any, Network, Network]:
    """The method on the real networks, the network that it trains, and the teacher."""
    student_network, teacher_network = build_network(student, classes), build_network(teacher, classes).eval()
    settings = method_settings(name)
    METHODS[name].check(settings, feature_shapes(student), feature_shapes(teacher))
    context = MethodContext(
        student_network,
        feature_shapes(student),
        classes,
        torch.arange(8) % classes,
        teacher_network,
        feature_shapes(teacher),
    )
    method = METHODS[name](settings, context)
    return method, method.predictor(student_network), teacher_network


@pytest.mark.parametrize("name", ["reviewkd", "simkd", "catkd"])
@pytest.mark.parametrize(("teacher", "student"), [("resnet32x4", "ShuffleV1"), ("vgg13", "MobileNetV2")])
def test_all_that_is_trained_has_a_gradient(name: str, teacher: str, student: str) -> None:
    """Real networks: finite terms, and gradients to all that is trained."""
    torch.manual_seed(0)
    method, network, teacher_network = real(name, teacher, student)
    method.begin_epoch(100)
    images = torch.randn(2, 3, 32, 32)
    with torch.no_grad():
        target = teacher_network.features(images)
    total, _ = method(network.features(images), target, a_batch(images))
    assert total.isfinite()
    total.backward()
    trained = [p for module in (network, method) for p in module.parameters() if p.requires_grad]
    assert all(p.grad is not None and p.grad.isfinite().all() for p in trained)


@pytest.mark.parametrize("student", ["resnet8", "wrn_16_1", "MobileNetV2", "ShuffleV2"])
def test_simkds_student_keeps_only_what_predicts(student: str) -> None:
    """Saved weights predict the same in a network built anew; the student's own classifier is not among them."""
    _, network, teacher = real("simkd", "vgg8", student)
    names = network.state_dict().keys()
    own = build_network(student, 4)
    unused = own.tail if student in ("MobileNetV2", "ShuffleV2") else own.tail[-1:]
    kept = sum(p.numel() for name, p in own.named_parameters() if name.split(".")[0] not in unused)
    width, wanted = feature_shapes(student).feature_maps[-1][0], 512
    projected = width * 256 + 9 * 256 * 256 + 256 * wanted + 2 * (256 + 256 + wanted)
    assert sum(p.numel() for p in network.parameters()) == kept + projected + wanted * 4 + 4
    assert not any(name.startswith(tuple(f"student.{layer}." for layer in unused)) for name in names)
    assert torch.equal(network.classifier_layer.weight, teacher.classifier_layer.weight)

    again = real("simkd", "vgg8", student)[1]
    again.load_state_dict(network.state_dict())
    images = torch.randn(2, 3, 32, 32)
    assert torch.equal(again.eval()(images), network.eval()(images))


def test_catkds_student_has_no_bias_and_its_logits_are_its_class_maps_means() -> None:
    from sskd.methods.catkd import class_maps

    for student in ("resnet8", "wrn_16_1", "MobileNetV2", "ShuffleV2"):
        method, network, _ = real("catkd", "vgg8", student)
        features = network.features(torch.randn(2, 3, 32, 32))
        maps = class_maps(features.pre_pool, network.classifier_layer)  # type: ignore[arg-type]
        torch.testing.assert_close(maps.mean((2, 3)), features.logits)
        assert not network.classifier_layer.bias.requires_grad
        assert not list(method.parameters())
