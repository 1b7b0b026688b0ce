"""Parts of several methods that compare feature maps: middle taps, equal sizes, attention maps, regressors."""

from collections.abc import Sequence
from typing import TypeVar

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from sskd.errors import UserError
from sskd.networks import FeatureShapes

T = TypeVar("T")


def intermediate_maps(maps: Sequence[T]) -> Sequence[T]:
    """Returns all feature maps (or their shapes) but the first."""
    return maps[1:]


def check_intermediate_maps(method: str, student: FeatureShapes, teacher: FeatureShapes) -> None:
    """UserError unless both networks have as many middle taps, at least one: they pair up in order."""
    student_count, teacher_count = (
        len(intermediate_maps(student.feature_maps)),
        len(intermediate_maps(teacher.feature_maps)),
    )
    if student_count != teacher_count or not student_count:
        raise UserError(
            f"method '{method}' pairs the middle taps in order, but {student.network} has {student_count} and "
            f"{teacher.network} has {teacher_count}; choose networks with as many taps"
        )


def check_pre_pool(method: str, student: FeatureShapes, teacher: FeatureShapes) -> None:
    """UserError unless both networks give the map that they pool."""
    for shapes in (student, teacher):
        if shapes.pre_pool is None:
            raise UserError(
                f"method '{method}' needs the map that is pooled before the classifier, and {shapes.network} gives "
                "none: its features() must return it as Features.pre_pool, or network_settings name it as pooled"
            )


def match_sizes(student: Tensor, teacher: Tensor) -> tuple[Tensor, Tensor]:
    """Maps (B, C, H, W) float32 of one size: the larger is average-pooled adaptively to the smaller; widths stay."""
    size = min(student.shape[2], teacher.shape[2]), min(student.shape[3], teacher.shape[3])
    return _pooled(student, size), _pooled(teacher, size)


def _pooled(maps: Tensor, size: tuple[int, int]) -> Tensor:
    return maps if tuple(maps.shape[2:]) == size else F.adaptive_avg_pool2d(maps, size)


def attention(maps: Tensor) -> Tensor:
    """Attention maps of unit length, (B, C, H, W) to (B, HW): the channels' mean square (Zagoruyko 2017)."""
    return F.normalize(maps.square().mean(dim=1).flatten(1), dim=1)


def regressor(student: Sequence[int], teacher: Sequence[int], relu: bool) -> nn.Sequential:
    """From maps of the student's shape to the teacher's: convolution, batch norm, perhaps ReLU (FitNet, AB).

    Shapes are (channels, height, width). A student's map twice as large: 3x3, stride 2. Half as large: 4x4
    transposed, stride 2. Else no smaller: a valid convolution of kernel 1 + the difference of sizes.
    UserError for any other sizes.
    """
    (channels, height, width), (wanted, to_height, to_width) = student, teacher
    convolution: nn.Module
    if (height, width) == (2 * to_height, 2 * to_width):
        convolution = nn.Conv2d(channels, wanted, kernel_size=3, stride=2, padding=1)
    elif (2 * height, 2 * width) == (to_height, to_width):
        convolution = nn.ConvTranspose2d(channels, wanted, kernel_size=4, stride=2, padding=1)
    elif height >= to_height and width >= to_width:
        convolution = nn.Conv2d(channels, wanted, kernel_size=(1 + height - to_height, 1 + width - to_width))
    else:
        raise UserError(
            f"no regressor maps the student's {height}x{width} to the teacher's {to_height}x{to_width}: the "
            "student's map must be half as large or no smaller; choose another pair of networks"
        )
    return nn.Sequential(convolution, nn.BatchNorm2d(wanted), *([nn.ReLU()] if relu else []))


def check_regressor(method: str, student: FeatureShapes, teacher: FeatureShapes, tap: int) -> None:
    """UserError, naming networks, tap and sizes, where ``regressor`` has no way from one map to the other."""
    try:
        with torch.device("meta"):  # no weights are made, no random numbers drawn
            regressor(student.feature_maps[tap], teacher.feature_maps[tap], relu=False)
    except UserError as error:
        raise UserError(f"method '{method}', tap {tap} of {student.network} and {teacher.network}: {error}") from None
