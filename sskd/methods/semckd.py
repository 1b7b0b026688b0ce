"""SemCKD (Chen et al. 2021): each map of the student learns from all of the teacher's, weighted by learned
attention."""

from collections.abc import Sequence
from itertools import product

import torch
from pydantic import NonNegativeFloat, PositiveFloat
from torch import Tensor, nn
from torch.nn import functional as F

from sskd.config.settings import MethodSettings
from sskd.data.batch import Batch
from sskd.errors import UserError
from sskd.methods.base import METHODS, LossTerms, Method, MethodContext, MethodInfo
from sskd.methods.feature_maps import match_sizes
from sskd.methods.simkd import projector
from sskd.networks import Features, FeatureShapes


class Embedding(nn.Module):
    """Maps (B, C, H, W) to embeddings (B, B // 4) of unit length: an MLP on the rows of the inner products (B, B)
    between the images' flattened maps, which are not normalised."""

    def __init__(self, images: int) -> None:
        super().__init__()
        self.linear1 = nn.Linear(images, 2 * (images // 4))
        self.linear2 = nn.Linear(2 * (images // 4), images // 4)

    def forward(self, maps: Tensor) -> Tensor:
        rows = maps.flatten(1)
        embedded = self.linear2(F.relu(self.linear1(rows @ rows.T)))
        return embedded / embedded.norm(dim=1, keepdim=True)


class SemCKDSettings(MethodSettings):
    weight: NonNegativeFloat = 400.0
    """The weight of the method's term: beta in the published code."""
    softness: PositiveFloat = 1.0
    """Temperature of the attention: products of queries and keys are divided by it."""


@METHODS.register("semckd")
class SemCKD(Method):
    """The embeddings depend on the batch size, so a smaller last batch of an epoch only has the other terms."""

    Settings = SemCKDSettings
    info = MethodInfo(
        "SemCKD",
        "Chen et al., AAAI 2021, Cross-Layer Distillation with Semantic Calibration",
        2021,
        "intermediate feature maps, each matched with all of the teacher's",
        family="feature maps",
        url="https://arxiv.org/abs/2012.03236",
        code="https://github.com/DefangChen/SemCKD",
        formula=r"\frac{w}{B S} \sum_i \sum_{j=1}^S \sum_k \alpha_{ijk} \mathrm{MSE} \left( P_{jk}(f^s_{ij}), f^t_{ik} "
        r"\right)",
        where="Image $i$, map $j$ of the student's $S$, map $k$ of the teacher; the larger map is pooled to the "
        r"smaller, and $P_{jk}$ is a projection (three convolutions). $\alpha_{ij \cdot}$ is the softmax over "
        "$k$ of the products of two trained embeddings, of the rows $i$ of both maps' inner products between "
        "images.",
        differs="The code skips the smaller last batch of an epoch; here that batch has CE and KL only.",
    )
    required_features = frozenset({"feature_maps", "logits"})
    term_weights = {"semckd": "weight"}

    def __init__(self, settings: SemCKDSettings, context: MethodContext) -> None:
        super().__init__(settings, context)
        _, teacher_shapes = context.teacher_side()
        self._images = context.recipe.batch_size
        if self._images < 4:
            raise UserError(f"method 'semckd' needs batches of at least 4 images: recipe.batch_size is {self._images}")
        students, teachers = context.student_shapes.feature_maps[1:], teacher_shapes.feature_maps[1:]
        self.queries = nn.ModuleList(Embedding(self._images) for _ in students)
        self.keys = nn.ModuleList(Embedding(self._images) for _ in teachers)
        pairs = product(students, teachers)
        # without the last batch norm and ReLU
        self.projections = nn.ModuleList(projector(s[0], 2 * t[0], t[0])[:-2] for s, t in pairs)

    @classmethod
    def check(cls, settings: SemCKDSettings, student: FeatureShapes, teacher: FeatureShapes) -> None:
        for shapes in (student, teacher):
            if not shapes.feature_maps[1:]:
                raise UserError(
                    f"method 'semckd' compares intermediate maps, and {shapes.network} gives none: choose another "
                    "network"
                )

    def loss_terms(self, student: Features, teacher: Features, batch: Batch) -> LossTerms:
        if len(batch.labels) != self._images:  # a zero gradient, because every parameter needs a gradient in every step
            return LossTerms({"semckd": 0.0 * torch.stack([weight.sum() for weight in self.parameters()]).sum()})
        return LossTerms({"semckd": self.loss(student.feature_maps[1:], teacher.feature_maps[1:])})

    def loss(self, student: Sequence[Tensor], teacher: Sequence[Tensor]) -> Tensor:
        """Returns the term, 0-d. student, teacher: S and U maps (B, C, H, W) float32."""
        attention = self.attention(student, teacher)
        total = student[0].new_zeros(())
        for shares, project, pair in zip(
            attention.flatten(1).unbind(1), self.projections, product(student, teacher), strict=True
        ):
            student_map, teacher_map = match_sizes(*pair)
            errors = (project(student_map) - teacher_map).square().mean((1, 2, 3))
            total = total + (shares * errors).sum()
        return total / (len(attention) * len(student))

    def attention(self, student: Sequence[Tensor], teacher: Sequence[Tensor]) -> Tensor:
        """Returns the attention (B, S, U) of each map of the student over those of the teacher; it sums to 1 over U."""
        query = torch.stack([embed(maps) for embed, maps in zip(self.queries, student, strict=True)], dim=1)
        key = torch.stack([embed(maps) for embed, maps in zip(self.keys, teacher, strict=True)], dim=1)
        return F.softmax(query @ key.transpose(1, 2) / self.settings.softness, dim=2)
