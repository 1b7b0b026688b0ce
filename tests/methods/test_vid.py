"""VID."""

import pytest
import torch
from torch.nn import functional as F

from sskd.errors import UserError
from sskd.methods.vid import TapRegressor, negative_log_likelihood
from tests.golden import LOSSES, assert_golden, tensor
from tests.methods.pairs import PAIRS, published_shapes
from tests.methods.stand_ins import assert_learns, build


def golden_module() -> TapRegressor:
    module = TapRegressor(64, 128)
    weights = {f"regressor.{2 * i}.weight": 0.1 * tensor(101 + i, 128, 128 if i else 64, 1, 1) for i in range(3)}
    missing, unexpected = module.load_state_dict(weights, strict=False)
    assert (missing, unexpected) == (["log_scale"], [])
    return module


def test_loss_and_gradient_are_the_published_ones() -> None:
    student = tensor(12, 12, 64, 4, 4).requires_grad_()
    assert_golden("vid", golden_module()(student, tensor(32, 12, 128, 8, 8)), [student])


def test_parameters_have_the_published_names_and_shapes() -> None:
    found = [[name, list(parameter.shape)] for name, parameter in golden_module().named_parameters()]
    assert found == LOSSES["vid"]["parameters"]


def test_variance_starts_at_five() -> None:
    variance = F.softplus(TapRegressor(4, 8).log_scale) + 1e-5
    torch.testing.assert_close(variance, torch.full((8,), 5.0))


def test_likelihood_is_torchs_own_gaussian() -> None:
    predicted, target, variance = tensor(1, 3, 6, 4, 4), tensor(2, 3, 6, 4, 4), tensor(3, 6).exp()
    expected = F.gaussian_nll_loss(predicted, target, variance[None, :, None, None].expand_as(target))
    torch.testing.assert_close(negative_log_likelihood(predicted, target, variance), expected)


@pytest.mark.parametrize(("teacher", "student"), PAIRS)
def test_learns_in_every_pair_of_the_paper(teacher: str, student: str) -> None:
    assert_learns("vid", teacher, student)


def test_networks_with_unequal_numbers_of_taps_are_an_error_at_planning_time() -> None:
    with pytest.raises(UserError, match=r"'vid'.*resnet20 has 3 and vgg13 has 4"):
        build("vid", published_shapes("resnet20"), published_shapes("vgg13"))
