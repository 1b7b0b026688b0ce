"""FSP: golden values, and errors that name taps, widths and networks."""

import pytest
import torch

from sskd.errors import UserError
from sskd.methods import METHODS
from sskd.methods.fsp import flow, flow_loss
from sskd.runs.settings import method_settings
from tests import golden
from tests.methods.pairs import a_batch, context, features_like, published_shapes

MAPS = ((16, 16, 16), (32, 8, 8), (64, 4, 4))


def test_golden() -> None:
    student = [golden.tensor(10 + i, 12, *shape).requires_grad_() for i, shape in enumerate(MAPS)]
    teacher = [golden.tensor(20 + i, 12, *shape) for i, shape in enumerate(MAPS)]
    golden.assert_golden("fsp", flow_loss(student, teacher), student)


def test_flow_is_the_mean_product_of_channels() -> None:
    earlier, later = golden.tensor(1, 2, 3, 4, 4), golden.tensor(2, 2, 5, 4, 4)
    found = flow(earlier, later)
    assert found.shape == (2, 3, 5)
    torch.testing.assert_close(found[1, 2, 4], (earlier[1, 2] * later[1, 4]).mean())


def test_pairs_of_other_widths_are_refused_by_the_first_tap_that_differs() -> None:
    message = r"tap 1 \(from 0\) has 16 in wrn_40_1 and 32 in wrn_40_2"
    with pytest.raises(UserError, match=message):
        METHODS["fsp"].check(method_settings("fsp"), published_shapes("wrn_40_1"), published_shapes("wrn_40_2"))


def test_other_numbers_of_taps_are_an_error() -> None:
    with pytest.raises(UserError, match="resnet20 has 4 and vgg13 has 5"):
        METHODS["fsp"].check(method_settings("fsp"), published_shapes("resnet20"), published_shapes("vgg13"))


def test_initial_stage_trains_the_feature_layers_only() -> None:
    torch.manual_seed(0)
    here = context("resnet56", "resnet20")
    method = METHODS["fsp"](method_settings("fsp"), here)
    (stage,) = method.initial_stages()
    assert (stage.epochs, stage.learning_rate, stage.uses_student) == (30, None, True)
    batch = a_batch(torch.randn(2, 3, 32, 32))
    with torch.no_grad():
        teacher_features = here.teacher.features(batch.images)  # type: ignore[union-attr]
    stage.loss(here.student.features(batch.images), teacher_features, batch)["fsp"].backward()
    declared = {id(p) for module in stage.trained for p in module.parameters()}
    assert declared == {id(p) for p in here.student.parameters() if p.grad is not None}
    assert here.student.fc.weight.grad is None
    assert not list(method.parameters())


def test_weight_applies_in_the_initial_stage_and_the_main_stage_has_no_term() -> None:
    here = context("resnet56", "resnet20")
    student_features, teacher_features = features_like(here.student_shapes), features_like(here.student_shapes)
    batch = a_batch(torch.zeros(2, 3, 1, 1))
    method = METHODS["fsp"](method_settings("fsp"), here)
    found = method.initial_stages()[0].loss(student_features, teacher_features, batch)["fsp"]
    torch.testing.assert_close(found, flow_loss(student_features.feature_maps, teacher_features.feature_maps))
    earlier = METHODS["fsp"](method_settings("fsp", weight=50.0), here).initial_stages()[0]
    torch.testing.assert_close(earlier.loss(student_features, teacher_features, batch)["fsp"], 50 * found)
    assert set(method(student_features, teacher_features, batch)[1].losses) == {"ce"}
