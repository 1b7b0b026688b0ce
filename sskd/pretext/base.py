"""The base of all pretext tasks: views of an image, a head on the pooled features, the loss that trains the teacher's
head, and the term that transfers its output to the student's."""

from typing import Any, ClassVar, NamedTuple

from torch import Tensor, nn

from sskd.config.settings import MethodSettings, PretextSettings
from sskd.data.batch import Batch
from sskd.data.views import ViewTransform
from sskd.losses import Divergence
from sskd.networks import Features, Network
from sskd.registry import Registry


class PretextContext(NamedTuple):
    """What a head is built from."""

    embed_dim: int  # D, the number of pooled features
    num_images: int  # N, training images of the split (exemplar: one class each)
    network: str = ""  # whose head it is
    num_classes: int = 0


class TransferConfig(NamedTuple):
    """How L_ss transfers the head's output."""

    temperature: float  # that softens both sides
    keep: float  # share of the teacher's wrong predictions that is kept, least wrong first; right ones always are
    divergence: Divergence  # "kl" or "cross_entropy", see losses.kd_divergence


class Transfer(NamedTuple):
    """The student's term (0-d, with gradient) and what is only logged (0-d)."""

    loss: Tensor
    logged: dict[str, Tensor]


class Pretext(nn.Module):
    """Base of every task. The module is the head: the teacher's in a head run, the student's beside a student."""

    Settings: ClassVar[type[PretextSettings]] = PretextSettings
    title: ClassVar[str]
    method: ClassVar[str | None] = None  # the one method that it is for; None: any that transfers a task
    required_features: ClassVar[frozenset[str]] = (
        frozenset()
    )  # of the network beside the pooled features: "feature_maps"
    ignores: ClassVar[frozenset[str]] = frozenset()  # settings of the method that transfer() makes no use of
    network: Network | None  # that learns with the head and then teaches, in place of the frozen teacher
    evaluable_on_test: ClassVar[bool] = True  # False: its classes are the training images, so test images say nothing

    def __init__(self, settings: Any, context: PretextContext) -> None:
        super().__init__()
        self.settings = settings
        self.context = context
        self.network = None

    @classmethod
    def check(cls, method: MethodSettings) -> None:
        """ValueError where a setting of the method that this task ignores is not the default."""
        for name in sorted(cls.ignores & type(method).model_fields.keys()):
            default = type(method).model_fields[name].default
            if getattr(method, name) != default:  # a spec that a run has written names defaults too
                raise ValueError(f"'{name}' is ignored by this pretext task ({cls.title}): leave it out ({default})")

    @classmethod
    def view_transform(cls, settings: Any) -> ViewTransform:
        """What makes the V views of each image, of which the first is the normal one."""
        raise NotImplementedError

    def read(self, features: Features) -> Tensor:
        """The head's output for one forward pass of the network; it sees the pooled vector, unless overridden."""
        return self(features.pooled)

    def forward(self, vector: Tensor) -> Tensor:
        """Pooled features of all views (V * B, D) float32 to the head's output (V * B, width of the head)."""
        raise NotImplementedError

    def loss(self, output: Tensor, batch: Batch) -> tuple[Tensor, Tensor]:
        """For the teacher's head: the loss (0-d) and the task's accuracy on this batch (0-d, 0 to 1)."""
        raise NotImplementedError

    def transfer(self, student: Tensor, teacher: Tensor, batch: Batch, config: TransferConfig) -> Transfer:
        """L_ss: from the teacher's head output to the student's, both (V * B, width of their head)."""
        raise NotImplementedError


PRETEXTS: Registry[type[Pretext]] = Registry("pretext", "sskd.pretext")
