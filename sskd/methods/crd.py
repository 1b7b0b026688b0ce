"""CRD (Tian et al. 2020): contrastive loss between student and teacher embeddings. The positive is the other network's
embedding of the same image; the negatives are its embeddings of images of other classes."""

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

    Computes all B x N products and selects the contrasts. Gathering bank rows gives the same values, but its B x K x D
    floats (537 MB per network at batch size 64) take about 25 times as long on CIFAR. On ImageNet (batch size 256) the
    products need 1.3 GB and the rows would need 2.1 GB.
    """
    return ((embedding @ bank.T).gather(1, contrasts) / temperature).exp()


def contrastive_loss(scores: Tensor, num_images: int) -> Tensor:
    """Noise-contrastive loss of Tian et al. 2020, as in the published code; 0-d.

    scores: (B, 1 + K), divided by Z, with the positive first. num_images: N, the size of the bank. With m = K / N, the
    loss is -(sum log(o_pos / (o_pos + m + eps)) + sum log(m / (o_neg + m + eps))) / B.
    """
    positive, negative = scores[:, 0], scores[:, 1:]
    noise = negative.shape[1] / num_images
    # log1p saves a pass over the negatives and is exact if o is small compared with m
    loss = torch.log1p((noise + EPSILON) / positive).sum() + torch.log1p((negative + EPSILON) / noise).sum()
    return loss / scores.shape[0]


class CRDSettings(MethodSettings):
    weight: NonNegativeFloat = 0.8
    """The weight of the method's term."""
    negatives: PositiveInt = 16384
    """Number of negatives per image: K in the paper."""
    positive: Literal["exact", "relaxed"] = "exact"
    """The positive: the image itself (exact), or any image of its class (relaxed)."""
    width: PositiveInt = 128
    """Dimension of the embeddings."""
    temperature: PositiveFloat = 0.07
    """Temperature: similarities are divided by it."""
    momentum: Probability = 0.5
    """Momentum of the bank's entries: fraction of the old entry that an update keeps."""


@METHODS.register("crd")
class CRD(Method):
    """Has a trained embedding and a memory bank per network, and their constants Z (-1 until the first batch sets
    them)."""

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
        # indices and embeddings (student, teacher) of this step, until the banks are updated
        self._seen: tuple[Tensor, Tensor, Tensor] | None = None

    def loss_terms(self, student: Features, teacher: Features, batch: Batch) -> LossTerms:
        settings: Any = self.settings
        embed_s = F.normalize(self.embed_student(student.pooled), dim=1)
        embed_t = F.normalize(self.embed_teacher(teacher.pooled), dim=1)
        contrasts = self.banks.draw(batch.indices, settings.negatives, settings.positive, batch.generator)
        self._seen = (batch.indices, embed_s.detach(), embed_t.detach())
        return LossTerms({"crd": self.loss(embed_s, embed_t, contrasts)})

    def loss(self, embed_s: Tensor, embed_t: Tensor, contrasts: Tensor) -> Tensor:
        """Sum of the losses of both networks, 0-d; the first call sets Z. embed_s, embed_t: (B, width) of unit length.
        contrasts: (B, 1 + K) int64."""
        temperature = self.settings.temperature
        score_s = contrast_scores(embed_s, self.banks.teacher, contrasts, temperature)
        score_t = contrast_scores(embed_t, self.banks.student, contrasts, temperature)
        num_images = len(self.banks.labels)
        with torch.no_grad():  # on the device: reading Z on the host would synchronise
            first = torch.stack([score_s.mean(), score_t.mean()]) * num_images
            z = torch.where(self.z < 0, first, self.z)
            self.z.copy_(z)
        return contrastive_loss(score_s / z[0], num_images) + contrastive_loss(score_t / z[1], num_images)

    def after_step(self) -> None:
        """Updates the banks with the embeddings of the step, after the backward pass, which reads the banks."""
        if self._seen is not None:
            indices, student, teacher = self._seen
            self.banks.update(indices, student, teacher, self.settings.momentum)
            self._seen = None
