"""Base class of all pretext tasks, and the registry of their names."""

from typing import Any, ClassVar, NamedTuple

from torch import Tensor, nn

from sskd.config.settings import MethodSettings, PretextSettings
from sskd.data.batch import Batch
from sskd.data.transformations import TRANSFORMATIONS
from sskd.data.views import ViewTransform
from sskd.losses import Divergence
from sskd.networks import Features, Network
from sskd.registry import Registry


class PretextContext(NamedTuple):
    """Arguments of a head."""

    embed_dim: int  # D, the number of pooled features
    num_images: int  # N, training images of the split
    network: str = ""  # name of the head's network
    num_classes: int = 0


class TransferConfig(NamedTuple):
    """Settings of L_ss."""

    temperature: float  # of the outputs of student and teacher
    keep: float  # fraction of the teacher's wrong predictions that is used, best ranked first
    divergence: Divergence  # "kl" or "cross_entropy", see losses.kd_divergence


class Transfer(NamedTuple):
    """The student's loss term (0-d, with gradient) and values that are only logged (0-d)."""

    loss: Tensor
    logged: dict[str, Tensor]


class Pretext(nn.Module):
    """Base class of all pretext tasks. The module is the head, of the teacher or of the student."""

    Settings: ClassVar[type[PretextSettings]] = PretextSettings
    title: ClassVar[str]
    method: ClassVar[str | None] = None  # name of the only method that uses the task; None: any
    network: Network | None  # trained together with the head, and then teaches instead of the frozen teacher
    # "feature_maps", if read() uses more than logits and pooled features
    required_features: ClassVar[frozenset[str]] = frozenset()
    ignores: ClassVar[frozenset[str]] = frozenset()  # settings of the method that transfer() does not use
    evaluable_on_test: ClassVar[bool] = True  # False if classes are training images

    def __init__(self, settings: Any, context: PretextContext) -> None:
        super().__init__()
        self.settings = settings
        self.context = context
        self.network = None

    @classmethod
    def check(cls, method: MethodSettings) -> None:
        """Raises ValueError if a setting of the method that this task ignores is not the default."""
        for name in sorted(cls.ignores & type(method).model_fields.keys()):
            default = type(method).model_fields[name].default
            if getattr(method, name) != default:  # the spec of a run contains defaults too
                raise ValueError(
                    f"'{name}' is ignored by this pretext task ({cls.title}): remove it (default {default})"
                )

    @classmethod
    def view_transform(cls, settings: Any) -> ViewTransform:
        """Returns the transform that makes the V views of each image; the first is the normal view. By default it is
        the transformation that the settings name."""
        return TRANSFORMATIONS[settings.transformation]

    def read(self, features: Features) -> Tensor:
        """Returns the head's output for the features of one forward pass; by default it uses the pooled features."""
        return self(features.pooled)

    def forward(self, pooled: Tensor) -> Tensor:
        """Maps the pooled features of all views, (V * B, D) float32, to the head's output (V * B, outputs)."""
        raise NotImplementedError

    def loss(self, output: Tensor, batch: Batch) -> tuple[Tensor, Tensor]:
        """Returns the loss (0-d) that trains the teacher's head, and its accuracy on this batch (0-d, 0 to 1)."""
        raise NotImplementedError

    def transfer(self, student: Tensor, teacher: Tensor, batch: Batch, config: TransferConfig) -> Transfer:
        """Returns L_ss between the outputs (V * B, outputs) of the student's and the teacher's head."""
        raise NotImplementedError


PRETEXTS: Registry[type[Pretext]] = Registry("pretext", "sskd.pretext")
