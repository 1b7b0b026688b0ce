"""Controls: KD once more with other seeds (A/A), and KD from the predictions of other images."""

from torch import Tensor

from sskd.data.batch import Batch
from sskd.methods.base import METHODS, LossTerms, MethodInfo
from sskd.methods.kd import KD
from sskd.networks import Features


@METHODS.register("kd_again")
class KDAgain(KD):
    """KD with other random numbers (A/A): seed s has other first weights and other batches than seed s of KD, so any
    difference between the two is chance."""

    info = MethodInfo(
        "KD again",
        "control: KD with other seeds",
        0,
        "softened predictions",
        family="control",
        formula=r"T^2 \left\langle \mathrm{KL}(p^t_T \Vert p^s_T) \right\rangle",
        where="KD with other random numbers: seed $n$ has the initial weights and the batches of seed $n + 10^6$.",
    )
    seed_shift = 1_000_000


@METHODS.register("placebo")
class Placebo(KD):
    """KD from logits of another image: each image gets the teacher's logits of the one before it in the batch, which
    is drawn at random. What it gains over no distillation is what soft targets do whatever they say."""

    info = MethodInfo(
        "Placebo",
        "control: KD, logits of other images",
        0,
        "softened predictions of other images",
        family="control",
        formula=r"T^2 \left\langle \mathrm{KL}(p^t_{T,i-1} \Vert p^s_{T,i}) \right\rangle",
        where="Image $i$ gets the teacher's logits of the previous image of the batch.",
    )

    def forward(self, student: Features, teacher: Features | None, batch: Batch) -> tuple[Tensor, LossTerms]:
        assert teacher is not None
        return super().forward(student, teacher._replace(logits=teacher.logits.roll(1, 0)), batch)
