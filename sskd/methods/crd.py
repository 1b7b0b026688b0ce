"""CRD (Tian et al. 2020): each side's embedding of an image is told from the other side's of other classes."""

from typing import Any, Literal

import torch
from pydantic import NonNegativeFloat, PositiveFloat, PositiveInt
from torch import Tensor, nn
from torch.nn import functional as F

from sskd.config.fields import Probability
from sskd.config.settings import MethodSettings
from sskd.data.batch import Batch
from sskd.methods.base import METHODS, LossTerms, Method, MethodContext, MethodInfo
from sskd.methods.memory_bank import Banks
from sskd.networks import Features

EPSILON = 1e-7


def contrast_scores(embedding: Tensor, bank: Tensor, contrasts: Tensor, temperature: float) -> Tensor:
    """exp(bank . embedding / temperature) at the given entries: (B, D), (N, D) and (B, 1 + K) to (B, 1 + K).

    All B x N products are made, then the wanted ones picked: the same values as from gathered bank rows,
    whose B x K x D floats (537 MB a side at batch 64) take some 25 times as long at CIFAR's size. On ImageNet
    (batch 256) this is 1.3 GB of products against 2.1 GB of rows, so there is only this way.
    """
    return ((embedding @ bank.T).gather(1, contrasts) / temperature).exp()


def contrastive_loss(scores: Tensor, num_images: int) -> Tensor:
    """Tian et al. 2020, eq. 17-18, noise-contrastive form, as the published code has it; 0-d.

    scores: (B, 1 + K), already divided by Z, the positive first. num_images: N, the size of the bank.
    With m = K / N: -(sum log(o_pos / (o_pos + m + eps)) + sum log(m / (o_neg + m + eps))) / B.
    """
    positive, negative = scores[:, 0], scores[:, 1:]
    noise = negative.shape[1] / num_images
    # log1p: the same logarithms with one pass fewer over the negatives, and exact where o is small beside m
    loss = torch.log1p((noise + EPSILON) / positive).sum() + torch.log1p((negative + EPSILON) / noise).sum()
    return loss / scores.shape[0]


class CRDSettings(MethodSettings):
    weight: NonNegativeFloat = 0.8
    """The weight of the method's term."""
    negatives: PositiveInt = 16384
    """How many other images each is told from: K in the paper."""
    positive: Literal["exact", "relaxed"] = "exact"
    """What counts as the same: the image itself (exact), or any image of its class (relaxed)."""
    width: PositiveInt = 128
    """The length of the embeddings."""
    temperature: PositiveFloat = 0.07
    """What similarities are divided by."""
    momentum: Probability = 0.5
    """What stays of a bank's entry when it is updated."""


@METHODS.register("crd")
class CRD(Method):
    """Two embeddings (trained), two banks, and each side's constant Z (-1 until the first batch sets it)."""

    Settings = CRDSettings
    info = MethodInfo(
        "CRD",
        "Tian et al., ICLR 2020, Contrastive Representation Distillation",
        2020,
        "pooled features, in contrast to those of other classes",
        family="contrast",
        url="https://arxiv.org/abs/1910.10699",
        code="https://github.com/HobbitLong/RepDistiller",
        formula=r"- \frac{w}{B} \sum_i \left[ \log \frac{o_{i0}}{o_{i0} + m} + \sum_{k=1}^{K} \log \frac{m}{o_{ik} + "
        r"m} \right], \quad o_{ik} = \frac{1}{Z} \exp(e_i \cdot b_{ik} / \tau)",
        where="The sum of this for the student's embedding $e$ (a trained linear map of $v$, scaled to unit length) "
        "with the teacher's bank $b$, and the reverse. $b_{i0}$ is the image's own entry, the others are $K$ "
        "(`negatives`) images of other classes; $m = K / N$ for $N$ training images. $Z$ is set by the first "
        "batch, and $10^{-7}$ is added to $m$ in the denominators. After each step, the banks move to the new "
        "embeddings (`momentum`).",
    )
    required_features = frozenset({"pooled", "labels", "indices"})
    term_weights = {"crd": "weight"}
    z: Tensor

    def __init__(self, settings: CRDSettings, context: MethodContext) -> None:
        super().__init__(settings, context)
        _, teacher = context.teacher_side()
        self.embed_student = nn.Linear(context.student_shapes.embed_dim, settings.width)
        self.embed_teacher = nn.Linear(teacher.embed_dim, settings.width)
        self.banks = Banks(context.labels, context.num_classes, settings.width)
        self.register_buffer("z", torch.full((2,), -1.0))
        # this step's indices and embeddings (student's, teacher's), until the banks have them
        self._seen: tuple[Tensor, Tensor, Tensor] | None = None

    def loss_terms(self, student: Features, teacher: Features, batch: Batch) -> LossTerms:
        settings: Any = self.settings
        embed_s = F.normalize(self.embed_student(student.pooled), dim=1)
        embed_t = F.normalize(self.embed_teacher(teacher.pooled), dim=1)
        contrasts = self.banks.draw(batch.indices, settings.negatives, settings.positive, batch.generator)
        self._seen = (batch.indices, embed_s.detach(), embed_t.detach())
        return LossTerms({"crd": self.loss(embed_s, embed_t, contrasts)})

    def loss(self, embed_s: Tensor, embed_t: Tensor, contrasts: Tensor) -> Tensor:
        """Both sides' losses. Unit embeddings (B, width); contrasts (B, 1 + K). The first call sets Z."""
        temperature = self.settings.temperature
        score_s = contrast_scores(embed_s, self.banks.teacher, contrasts, temperature)
        score_t = contrast_scores(embed_t, self.banks.student, contrasts, temperature)
        num_images = len(self.banks.labels)
        with torch.no_grad():  # decided on the device: asking for Z's value would make the host wait
            first = torch.stack([score_s.mean(), score_t.mean()]) * num_images
            z = torch.where(self.z < 0, first, self.z)
            self.z.copy_(z)
        return contrastive_loss(score_s / z[0], num_images) + contrastive_loss(score_t / z[1], num_images)

    def after_step(self) -> None:
        """The banks take in the step's embeddings: not before, as the backward pass reads the banks."""
        if self._seen is not None:
            indices, student, teacher = self._seen
            self.banks.update(indices, student, teacher, self.settings.momentum)
            self._seen = None
