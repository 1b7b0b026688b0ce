"""Control experiments: KD with other seeds (A/A test), and KD from the predictions of other images of the class."""

import torch
from torch import Tensor

from sskd.data.batch import Batch
from sskd.methods.base import METHODS, LossTerms, MethodContext, MethodInfo
from sskd.methods.kd import KD
from sskd.networks import Features


@METHODS.register("kd_again")
class KDAgain(KD):
    """KD with other random numbers (A/A test). Initial weights and batches of seed s differ from those of KD's seed s,
    so any difference between the two methods is due to chance."""

    info = MethodInfo(
        "KD again",
        "control: KD with other seeds",
        0,
        "softened predictions",
        family="control",
        formula=KD.info.formula,
        where="KD with other random numbers: seed $n$ has the initial weights and the batches of seed $n + 10^6$.",
    )
    seed_shift = 1_000_000


@METHODS.register("kd_shuffled")
class KDShuffled(KD):
    """KD from the teacher's logits of another image of the same class: the last one of an earlier batch. The targets of
    each class are those of KD, but not matched with the images, so KD minus this control is what the match is worth.
    Unmatched targets are noisy: the student can be worse than without a teacher. Targets are uniform until an image of
    the class was seen."""

    info = MethodInfo(
        "KD shuffled",
        "control: KD, logits of other images of the class",
        0,
        "softened predictions of other images of the class",
        family="control",
        formula=r"T^2 \left\langle \mathrm{KL}(p^t_{T,j(i)} \Vert p^s_{T,i}) \right\rangle",
        where="$j(i)$ is the last image of an earlier batch that has the label of image $i$. "
        "Targets are uniform until a class was seen.",
    )
    required_features = KD.required_features | {"logits", "labels"}
    last: Tensor

    def __init__(self, settings: object, context: MethodContext) -> None:
        super().__init__(settings, context)
        self.register_buffer("last", torch.zeros(context.num_classes, context.num_classes))
        self._seen: tuple[Tensor, Tensor] | None = None  # of this step, until after_step

    def forward(self, student: Features, teacher: Features | None, batch: Batch) -> tuple[Tensor, LossTerms]:
        assert teacher is not None
        self._seen = (teacher.logits, batch.labels)
        return super().forward(student, teacher._replace(logits=self.last[batch.labels]), batch)

    @torch.no_grad()
    def after_step(self) -> None:
        """Stores the logits of each class's last image of the batch."""
        if self._seen is not None:
            logits, labels = self._seen
            order = torch.arange(1, len(labels) + 1, device=labels.device)
            classes = torch.arange(len(self.last), device=labels.device)
            last = ((labels[:, None] == classes) * order[:, None]).amax(0)  # from 1; 0: no image of the class
            self.last.copy_(torch.where(last[:, None] > 0, logits[(last - 1).clamp(min=0)], self.last))
            self._seen = None
