"""Control experiments: KD with other seeds (A/A test), and KD from the predictions of other images (placebo)."""

from torch import Tensor

from sskd.data.batch import Batch
from sskd.methods.base import METHODS, LossTerms, MethodInfo
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


@METHODS.register("placebo")
class Placebo(KD):
    """KD from the teacher's logits of another image, the previous one of the randomly drawn batch. Its gain over
    training without a teacher is therefore the effect of soft targets that carry no information about the image."""

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
