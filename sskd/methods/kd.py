"""KD (Hinton et al. 2015): the student learns the teacher's softened predictions."""

from torch import Tensor

from sskd.config.settings import MethodSettings
from sskd.losses import standardised
from sskd.methods.base import METHODS, Method, MethodInfo


class KDSettings(MethodSettings):
    standardise: bool = False
    """Standardise the logits of student and teacher (LSKD: Sun et al. 2024)."""


@METHODS.register("kd")
class KD(Method):
    """Published setting: 0.1 CE + 0.9 KL(T = 4). It has no term besides CE and KL, which every method has."""

    Settings = KDSettings
    info = MethodInfo(
        "KD",
        "Hinton et al., arXiv 2015, Distilling the Knowledge in a Neural Network",
        2015,
        "softened predictions",
        family="logits",
        url="https://arxiv.org/abs/1503.02531",
        formula=r"T^2 \left\langle \mathrm{KL}(p^t_T \Vert p^s_T) \right\rangle",
        where=r"With `standardise` (LSKD, [Sun et al., CVPR 2024](https://arxiv.org/abs/2403.01427)), $(z - \bar z) "
        r"/ (\sigma + 10^{-7})$ replaces $z$ of student and teacher; $\bar z$ and $\sigma$ are the mean and the "
        "standard deviation of an image's logits.",
        differs="LSKD: the paper's standard deviation divides by C, the code's by C - 1 and adds 1e-7; here as in the "
        "code.",
    )
    required_features = frozenset({"logits"})

    def transform_logits(self, logits: Tensor) -> Tensor:
        return standardised(logits) if self.settings.standardise else logits
