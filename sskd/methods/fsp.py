"""FSP (Yim et al. 2017): before the main training, the student learns the Gram matrices of neighbouring maps."""

from collections.abc import Sequence
from typing import Any

import torch
from pydantic import NonNegativeFloat, PositiveInt
from torch import Tensor
from torch.nn import functional as F

from sskd.config.settings import MethodSettings
from sskd.data.batch import Batch
from sskd.errors import UserError
from sskd.methods.base import METHODS, InitialStage, Method, MethodContext, MethodInfo
from sskd.methods.feature_maps import check_intermediate_maps, match_sizes
from sskd.networks import Features, FeatureShapes


def flow(earlier: Tensor, later: Tensor) -> Tensor:
    """Returns Gram matrices (B, C1, C2) of maps (B, C1, H1, W1) and (B, C2, H2, W2): the spatial mean of the products
    of channels, after pooling the larger map to the smaller. Yim et al. 2017."""
    earlier, later = match_sizes(earlier, later)
    return earlier.flatten(2) @ later.flatten(2).mT / earlier[0, 0].numel()


def flow_loss(student: Sequence[Tensor], teacher: Sequence[Tensor]) -> Tensor:
    """Sum over neighbouring maps of the mean squared difference of their Gram matrices; 0-d. Yim et al. 2017.

    student, teacher: maps (B, C_i, H_i, W_i) in forward order; map i has equally many channels, sizes may differ.
    """

    def flows(maps: Sequence[Tensor]) -> list[Tensor]:
        return [flow(maps[i], maps[i + 1]) for i in range(len(maps) - 1)]

    pairs = zip(flows(student), flows(teacher), strict=True)
    return torch.stack([F.mse_loss(s, t) for s, t in pairs]).sum()


class FSPSettings(MethodSettings):
    # configs/methods.yaml overrides this default; it stays 50 because the ids of earlier runs depend on it
    weight: NonNegativeFloat = 50.0
    """The weight of the term in the initial stage."""
    initial_epochs: PositiveInt = 30
    """Epochs of the initial stage."""


@METHODS.register("fsp")
class FSP(Method):
    """Compares features only in the initial stage. The main training uses CE (and KD)."""

    Settings = FSPSettings
    info = MethodInfo(
        "FSP",
        "Yim et al., CVPR 2017, A Gift from Knowledge Distillation",
        2017,
        "Gram matrices of successive feature maps",
        family="relations",
        url="https://openaccess.thecvf.com/content_cvpr_2017/html/Yim_A_Gift_From_CVPR_2017_paper.html",
        formula=r"w \sum_l \mathrm{MSE}(G^s_l, G^t_l), \quad G_l = \frac{1}{H W} f_l f_{l+1}^{\top}",
        where="In the initial stage only. $f_l$ as a matrix (channels, $H W$ positions); the larger of the two maps "
        "is pooled to the smaller.",
        differs="The published command has `-b 50`, which multiplies a term that is zero in the main stage. The "
        "initial stage has weight 1, as here.",
    )
    required_features = frozenset({"feature_maps"})
    stage_names = ("initial", "main")

    def __init__(self, settings: FSPSettings, context: MethodContext) -> None:
        super().__init__(settings, context)
        # in a tuple, so that they are not submodules
        self._feature_layers = tuple(context.student.feature_layers())

    @classmethod
    def check(cls, settings: Any, student: FeatureShapes, teacher: FeatureShapes) -> None:
        check_intermediate_maps("fsp", student, teacher)
        for index, (s, t) in enumerate(zip(student.feature_maps, teacher.feature_maps, strict=True)):
            if s[0] != t[0]:
                raise UserError(
                    f"method 'fsp' needs equal numbers of channels, but tap {index} (from 0) has {s[0]} in "
                    f"{student.network} and {t[0]} in {teacher.network}; choose other networks"
                )

    def initial_stages(self) -> list[InitialStage]:
        return [InitialStage("initial", self.settings.initial_epochs, self._feature_layers, self._initial_loss)]

    def _initial_loss(self, student: Features | None, teacher: Features, batch: Batch) -> dict[str, Tensor]:
        assert student is not None
        return {"fsp": self.settings.weight * flow_loss(student.feature_maps, teacher.feature_maps)}
