"""AB: golden values, connectors for every pair, and an initial stage that trains feature layers only."""

import pytest
import torch

from sskd.errors import UserError
from sskd.methods import METHODS
from sskd.methods.ab import activation_boundary_loss
from sskd.networks import FeatureShapes, build_network
from sskd.runs.settings import method_settings
from tests import golden
from tests.methods.pairs import a_batch, context, features_like, published_shapes

MAPS = ((16, 16, 16), (32, 8, 8), (64, 4, 4))


def test_golden() -> None:
    student = [golden.tensor(10 + i, 12, *shape).requires_grad_() for i, shape in enumerate(MAPS)]
    teacher = [golden.tensor(20 + i, 12, *shape) for i, shape in enumerate(MAPS)]
    golden.assert_golden("ab", activation_boundary_loss(student, teacher), student)


def test_loss_counts_what_is_not_past_the_margin() -> None:
    student = torch.tensor([[2.0, 0.5, -2.0, 0.5]])
    teacher = torch.tensor([[1.0, 1.0, -1.0, 0.0]])  # zero counts as inactive
    loss = activation_boundary_loss([student], [teacher])
    assert loss.item() == pytest.approx((0.5**2 + 1.5**2) * 3 / 1000)


def test_networks_that_do_not_fit_are_named() -> None:
    with pytest.raises(UserError, match="vgg8"):
        METHODS["ab"].check(method_settings("ab"), published_shapes("resnet20"), published_shapes("vgg8"))
    small = FeatureShapes("small", ((8, 9, 9), (8, 3, 3)), 8)
    large = FeatureShapes("large", ((8, 9, 9), (8, 5, 5)), 8)
    with pytest.raises(UserError, match="tap 1"):
        METHODS["ab"].check(method_settings("ab"), small, large)


@pytest.mark.parametrize("name", ["resnet8", "wrn_16_1", "vgg8", "MobileNetV2", "ShuffleV1", "ShuffleV2", "ResNet50"])
def test_feature_layers_are_what_the_maps_depend_on(name: str) -> None:
    """Every feature layer gets a gradient from the last map; what is left out gets none."""
    network = build_network(name, 4)
    network.features(torch.randn(2, 3, 32, 32)).feature_maps[-1].square().sum().backward()
    trained = {id(p) for layer in network.feature_layers() for p in layer.parameters()}
    reached = {id(p) for p in network.parameters() if p.grad is not None}
    assert trained == reached


def test_initial_stage_trains_connectors_and_feature_layers_only() -> None:
    torch.manual_seed(0)
    here = context("resnet56", "resnet20")
    method = METHODS["ab"](method_settings("ab", weight=1.0), here)
    (stage,) = method.initial_stages()
    assert (stage.epochs, stage.learning_rate, stage.uses_student) == (30, None, True)
    batch = a_batch(torch.randn(2, 3, 32, 32))
    with torch.no_grad():
        teacher_features = here.teacher.features(batch.images)  # type: ignore[union-attr]
    terms = stage.loss(here.student.features(batch.images), teacher_features, batch)
    sum(terms.values()).backward()  # type: ignore[union-attr]
    declared = {id(p) for module in stage.trained for p in module.parameters()}
    reached = {id(p) for p in [*here.student.parameters(), *method.parameters()] if p.grad is not None}
    assert reached == declared
    assert here.student.fc.weight.grad is None


def test_connectors_are_trained_where_shapes_differ_and_saved() -> None:
    torch.manual_seed(0)
    here = context("wrn_40_2", "wrn_40_1")
    method = METHODS["ab"](method_settings("ab"), here)
    (stage,) = method.initial_stages()
    images = torch.randn(2, 3, 32, 32)
    with torch.no_grad():
        teacher_features = here.teacher.features(images)  # type: ignore[union-attr]
    stage.loss(here.student.features(images), teacher_features, a_batch(images))["ab"].backward()
    gradients = {name: p.grad is not None for name, p in method.named_parameters()}
    assert gradients
    assert all(gradients.values())
    assert all(name.startswith("connectors.") for name in method.state_dict())


def test_weight_applies_in_the_initial_stage_and_the_main_stage_has_no_term() -> None:
    here = context("resnet56", "resnet20")
    features = features_like(here.student_shapes)
    teacher_features = features_like(here.student_shapes)
    batch = a_batch(torch.zeros(2, 3, 1, 1))
    once, thrice = (METHODS["ab"](method_settings("ab", weight=w), here) for w in (1.0, 3.0))
    values = [m.initial_stages()[0].loss(features, teacher_features, batch)["ab"] for m in (once, thrice)]
    torch.testing.assert_close(values[1], 3 * values[0])
    total, terms = once(features, teacher_features, batch)
    assert set(terms.losses) == {"ce"}
    assert torch.equal(total, terms.losses["ce"])
