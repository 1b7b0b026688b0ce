"""Tests the functions that methods on feature maps share."""

import pytest
import torch
from torch import nn

from sskd.errors import UserError
from sskd.methods.feature_maps import (
    attention,
    check_intermediate_maps,
    check_regressor,
    intermediate_maps,
    match_sizes,
    regressor,
)
from sskd.networks import FeatureShapes
from tests.golden import tensor

RESNET = FeatureShapes("resnet20", ((16, 32, 32), (16, 32, 32), (32, 16, 16), (64, 8, 8)), 64)
VGG = FeatureShapes("vgg8", ((64, 32, 32), (128, 16, 16), (256, 8, 8), (512, 4, 4), (512, 4, 4)), 512)


def test_middle_taps_are_all_but_the_first_and_the_vector() -> None:
    assert list(intermediate_maps(RESNET.feature_maps)) == [(16, 32, 32), (32, 16, 16), (64, 8, 8)]


def test_unequal_numbers_of_taps_are_an_error_that_names_both() -> None:
    with pytest.raises(UserError, match=r"'at'.*resnet20 has 3 and vgg8 has 4"):
        check_intermediate_maps("at", RESNET, VGG)
    check_intermediate_maps("at", VGG, VGG)


def test_no_middle_taps_are_an_error() -> None:
    shallow = FeatureShapes("shallow", ((8, 4, 4),), 8)
    with pytest.raises(UserError, match="has 0"):
        check_intermediate_maps("vid", shallow, shallow)


def test_the_larger_map_is_pooled_to_the_smaller() -> None:
    large, small = tensor(1, 2, 3, 8, 8), tensor(2, 2, 5, 4, 4)
    for student_map, teacher_map in ((large, small), (small, large)):
        a, b = match_sizes(student_map, teacher_map)
        assert a.shape[2:] == b.shape[2:] == (4, 4)
        assert (a.shape[1], b.shape[1]) == (student_map.shape[1], teacher_map.shape[1])
    pooled, same = match_sizes(large, small)
    assert same is small
    torch.testing.assert_close(pooled[:, :, 0, 1], large[:, :, 0:2, 2:4].mean((2, 3)))


def test_attention_has_unit_length_and_ignores_scale() -> None:
    maps = tensor(3, 2, 6, 4, 4)
    found = attention(maps)
    assert found.shape == (2, 16)
    torch.testing.assert_close(found.norm(dim=1), torch.ones(2))
    torch.testing.assert_close(attention(3 * maps), found)


@pytest.mark.parametrize(
    ("student", "teacher", "kind", "kernel"),
    [
        ((16, 16, 16), (32, 8, 8), nn.Conv2d, (3, 3)),
        ((48, 8, 8), (64, 16, 16), nn.ConvTranspose2d, (4, 4)),
        ((32, 16, 16), (32, 16, 16), nn.Conv2d, (1, 1)),
        ((32, 10, 9), (16, 8, 8), nn.Conv2d, (3, 2)),
        ((8, 32, 32), (8, 8, 8), nn.Conv2d, (25, 25)),
    ],
)
@pytest.mark.parametrize("relu", [True, False])
def test_regressor_gives_the_teachers_shape(
    student: tuple[int, ...], teacher: tuple[int, ...], kind: type, kernel: tuple[int, int], relu: bool
) -> None:
    layers = regressor(student, teacher, relu)
    assert type(layers[0]) is kind
    assert layers[0].kernel_size == kernel
    assert layers[0].bias is not None
    found = layers(tensor(4, 3, *student))
    assert found.shape == (3, *teacher)
    assert (found.min() >= 0) == relu


def test_sizes_that_no_regressor_maps_are_an_error_that_names_tap_and_sizes() -> None:
    student_shapes = FeatureShapes("small", ((8, 8, 8), (8, 5, 5)), 8)
    teacher_shapes = FeatureShapes("large", ((8, 8, 8), (8, 8, 8)), 8)
    check_regressor("ab", student_shapes, teacher_shapes, 0)
    with pytest.raises(UserError, match=r"'ab', tap 1 of small and large: .*5x5.*8x8"):
        check_regressor("ab", student_shapes, teacher_shapes, 1)


def test_checking_a_regressor_draws_no_random_numbers() -> None:
    before = torch.get_rng_state()
    check_regressor("fitnet", RESNET, RESNET, 2)
    assert torch.equal(torch.get_rng_state(), before)
