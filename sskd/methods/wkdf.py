"""WKD-F (Lv et al. 2024): Wasserstein distance of the last map's channels, modelled as normal distributions."""

import math

import torch
from pydantic import NonNegativeFloat, NonNegativeInt, PositiveInt
from torch import Tensor, nn

from sskd.config.settings import MethodSettings
from sskd.data.batch import Batch
from sskd.errors import UserError
from sskd.methods.base import METHODS, LossTerms, Method, MethodContext, MethodInfo
from sskd.methods.feature_maps import check_regressor, regressor
from sskd.networks import Features, FeatureShapes

EPSILON = 1e-5


def falling(epoch: float, start: float, epochs: float) -> float:
    """Returns the factor of a weight: 1 up to epoch ``start`` (from 1), then half a cosine down to 0 in the last
    epoch."""
    return 1.0 if epoch <= start else (1 + math.cos(math.pi * (epoch - start) / max(epochs - start, 1e-9))) / 2


def windows(size: int, grid: int) -> list[slice]:
    """Returns the positions of ``grid`` windows along a side of a map, as in adaptive pooling."""
    return [slice(i * size // grid, -(-(i + 1) * size // grid)) for i in range(grid)]


def moments(maps: Tensor, grid: int) -> tuple[Tensor, Tensor]:
    """Returns mean and standard deviation of each channel in each window, (B, C, grid^2) each, of maps (B, C, H, W)
    float32. The variance has the denominator n - 1, and 1e-5 is added to it."""
    rows, columns = windows(maps.shape[2], grid), windows(maps.shape[3], grid)
    found = [torch.var_mean(maps[:, :, row, column], dim=(2, 3)) for row in rows for column in columns]
    return torch.stack([mean for _, mean in found], 2), (torch.stack([var for var, _ in found], 2) + EPSILON).sqrt()


def projector(student: tuple[int, ...], teacher: tuple[int, ...], hidden: int) -> nn.Sequential:
    """Returns a projector from the student's maps to the teacher's channels: FitNet's regressor, or 1x1, 3x3 and 1x1
    convolutions with ``hidden`` channels between them, then batch norm and ReLU."""
    if not hidden:
        return regressor(student, teacher, relu=True)
    channels, out_channels = student[0], teacher[0]
    return nn.Sequential(
        nn.Conv2d(channels, hidden, 1),
        nn.Conv2d(hidden, hidden, 3, padding=1),
        nn.Conv2d(hidden, out_channels, 1),
        nn.BatchNorm2d(out_channels),
        nn.ReLU(),
    )


class WKDFSettings(MethodSettings):
    weight: NonNegativeFloat = 0.08
    """The weight of the method's term."""
    mean_weight: NonNegativeFloat = 4.0
    """The weight of the means; that of the standard deviations is 1."""
    grid: PositiveInt = 1
    """Number of windows per side of a map."""
    hidden: NonNegativeInt = 0
    """Hidden channels of the projector's three convolutions (ImageNet: 256). 0: FitNet's regressor."""
    falls_from: NonNegativeFloat = 150.0
    """Epoch of the full schedule after which the weight falls to 0 along half a cosine."""


@METHODS.register("wkdf")
class WKDF(Method):
    """Compares the last feature maps (of a WRN: before its last batch norm and ReLU)."""

    Settings = WKDFSettings
    info = MethodInfo(
        "WKD-F",
        "Lv et al., NeurIPS 2024, Wasserstein Distance Rivals Kullback-Leibler Divergence for Knowledge Distillation",
        2024,
        "mean and standard deviation of the channels of the last feature map",
        family="feature maps",
        url="https://arxiv.org/abs/2412.08139",
        code="https://github.com/JiamingLv/WKD",
        formula=r"\frac{w}{B k^2} \sum \left[ w_m (\mu^s - \mu^t)^2 + (\sigma^s - \sigma^t)^2 \right]",
        where=r"$\mu$ and $\sigma$ are the mean and the standard deviation of each channel in each of $k \times k$ "
        "windows (`grid`) of the last map, the student's after a trained projector; $10^{-5}$ is added to the "
        "variance. $w_m$ is `mean_weight`. After epoch 150 (`falls_from`), $w$ falls to 0 along half a "
        "cosine.",
        differs="Two pairs have published settings; all others have those of resnet32x4/resnet8x4. WKD-L and WKD-F "
        "together (WKD-L+F) are not implemented.",
    )
    required_features = frozenset({"feature_maps"})
    term_weights = {"wkdf": "weight"}

    def __init__(self, settings: WKDFSettings, context: MethodContext) -> None:
        super().__init__(settings, context)
        _, teacher_shapes = context.teacher_side()
        student, teacher = context.student_shapes.feature_maps[-1], teacher_shapes.feature_maps[-1]
        self.projector = projector(student, teacher, settings.hidden)
        self._epochs = context.recipe.full_epochs

    @classmethod
    def check(cls, settings: WKDFSettings, student: FeatureShapes, teacher: FeatureShapes) -> None:
        if not settings.hidden:
            check_regressor("wkdf", student, teacher, -1)
        smaller = min(teacher.feature_maps[-1][1:])
        if min(len(range(smaller)[window]) for window in windows(smaller, settings.grid)) < 2:
            raise UserError(
                f"method 'wkdf' needs at least two positions per window, but grid {settings.grid} leaves one in the "
                f"last map of {teacher.network} ({smaller} x {smaller}), teacher of {student.network}: choose a "
                "smaller grid"
            )

    def schedule(self, term: str, epoch: float) -> float:
        falls = falling(epoch, self.settings.falls_from, self._epochs) if term == "wkdf" else 1.0
        return falls * super().schedule(term, epoch)

    def loss_terms(self, student: Features, teacher: Features, batch: Batch) -> LossTerms:
        means, deviations = self.parts(self.projector(student.feature_maps[-1]), teacher.feature_maps[-1])
        return LossTerms({"wkdf": self.settings.mean_weight * means + deviations})

    def parts(self, projected: Tensor, teacher: Tensor) -> tuple[Tensor, Tensor]:
        """Returns the terms of the means and of the standard deviations, 0-d. projected, teacher: (B, C, H, W)
        float32."""
        grid, images = self.settings.grid, len(teacher)
        pairs = zip(moments(projected, grid), moments(teacher, grid), strict=True)
        means, deviations = ((s - t).square().sum() / (images * grid**2) for s, t in pairs)
        return means, deviations
