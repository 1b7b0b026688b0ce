"""Functions shared by methods that compare feature maps: intermediate maps, equal sizes, attention maps, regressors."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from sskd.errors import UserError
from sskd.networks import FeatureShapes


def check_intermediate_maps(method: str, student: FeatureShapes, teacher: FeatureShapes) -> None:
    """Raises UserError unless both networks have the same number of intermediate maps (all but the first), at least
    one."""
    student_count, teacher_count = len(student.feature_maps[1:]), len(teacher.feature_maps[1:])
    if student_count != teacher_count or not student_count:
        raise UserError(
            f"method '{method}' pairs the intermediate feature maps in order, but {student.network} has "
            f"{student_count} and {teacher.network} has {teacher_count}; choose networks with equally many"
        )


def check_pre_pool(method: str, student: FeatureShapes, teacher: FeatureShapes) -> None:
    """Raises UserError unless both networks give the map before their pooling."""
    for shapes in (student, teacher):
        if shapes.pre_pool is None:
            raise UserError(
                f"method '{method}' needs the map before the pooling, and {shapes.network} gives none: return it "
                "as Features.pre_pool in features(), or name its module in network_settings as pooled"
            )


def match_sizes(student: Tensor, teacher: Tensor) -> tuple[Tensor, Tensor]:
    """Average-pools the larger of two maps (B, C, H, W) float32 to the size of the smaller; channels may differ."""
    size = min(student.shape[2], teacher.shape[2]), min(student.shape[3], teacher.shape[3])
    return _pooled(student, size), _pooled(teacher, size)


def _pooled(maps: Tensor, size: tuple[int, int]) -> Tensor:
    return maps if tuple(maps.shape[2:]) == size else F.adaptive_avg_pool2d(maps, size)


def attention(maps: Tensor) -> Tensor:
    """Returns attention maps (B, HW) of maps (B, C, H, W): mean of squares over channels, scaled to unit length
    (Zagoruyko & Komodakis 2017)."""
    return F.normalize(maps.square().mean(dim=1).flatten(1), dim=1)


def regressor(student: Sequence[int], teacher: Sequence[int], relu: bool) -> nn.Sequential:
    """Returns a convolution with batch norm, and a ReLU if ``relu``, from the student's shape to the teacher's (FitNet,
    AB).

    student, teacher: (channels, height, width). The convolution is 3x3 with stride 2 if the student's map is twice as
    large, 4x4 transposed with stride 2 if it is half as large, and else a valid one with kernel 1 + the difference of
    sizes. Raises UserError if a smaller student's map has another size.
    """
    (channels, height, width), (out_channels, to_height, to_width) = student, teacher
    convolution: nn.Module
    if (height, width) == (2 * to_height, 2 * to_width):
        convolution = nn.Conv2d(channels, out_channels, kernel_size=3, stride=2, padding=1)
    elif (2 * height, 2 * width) == (to_height, to_width):
        convolution = nn.ConvTranspose2d(channels, out_channels, kernel_size=4, stride=2, padding=1)
    elif height >= to_height and width >= to_width:
        convolution = nn.Conv2d(channels, out_channels, kernel_size=(1 + height - to_height, 1 + width - to_width))
    else:
        raise UserError(
            f"no regressor maps the student's {height}x{width} to the teacher's {to_height}x{to_width}: the "
            "student's map must be half as large or no smaller; choose another pair of networks"
        )
    return nn.Sequential(convolution, nn.BatchNorm2d(out_channels), *([nn.ReLU()] if relu else []))


def check_regressor(method: str, student: FeatureShapes, teacher: FeatureShapes, tap: int) -> None:
    """Raises UserError, with networks, number of the map and sizes, if ``regressor`` does not support the sizes."""
    try:
        with torch.device("meta"):  # allocates no weights and draws no random numbers
            regressor(student.feature_maps[tap], teacher.feature_maps[tap], relu=False)
    except UserError as error:
        raise UserError(f"method '{method}', tap {tap} of {student.network} and {teacher.network}: {error}") from None
