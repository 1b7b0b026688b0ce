"""The fixed inputs of the golden values in one precision, methods made for them, and the cases that are compared."""

import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from sskd.config.recipe import Recipe
from sskd.data.batch import Batch
from sskd.methods import METHODS, Method, MethodContext
from sskd.networks import Features, FeatureShapes, Network
from sskd.runs.settings import method_settings
from tests.golden import BATCH, CLASSES, labels, tensor


class Case(NamedTuple):
    """Values of one golden entry. ``loss`` is None if the entry only has outputs."""

    loss: Tensor | None
    inputs: Sequence[Tensor] = ()
    parameters: Sequence[Tensor] = ()
    outputs: Sequence[Tensor] = ()


CASES: dict[str, Callable[["Given"], Case]] = {}


def cases(made: Callable[..., Case]) -> Callable[..., None]:
    """Turns a function of (given, entry, ...) into one of (entry, ...) that registers the case of the entry."""

    def register(entry: str, *rest: Any, **settings: Any) -> None:
        CASES[entry] = lambda given: made(given, entry, *rest, **settings)

    return register


class Predictions(NamedTuple):
    """Logits of student (learned) and teacher for a batch, and for its strong views."""

    student: Tensor
    teacher: Tensor
    labels: Tensor
    strong_student: Tensor
    strong_teacher: Tensor


class Given:
    def __init__(self, dtype: torch.dtype, layout: torch.memory_format = torch.contiguous_format) -> None:
        self.dtype, self.layout = dtype, layout

    def t(self, k: int, *shape: int) -> Tensor:
        found = tensor(k, *shape).to(self.dtype)
        return found.contiguous(memory_format=self.layout) if len(shape) == 4 else found

    def maps(self, shapes: Mapping[int, tuple[int, ...]], factor: float = 1.0) -> list[Tensor]:
        return [factor * self.t(k, BATCH, *shape) for k, shape in shapes.items()]

    def predictions(self, first: int = 600, classes: int = CLASSES) -> Predictions:
        strong = 1.8 if first == 600 else 3
        student, teacher = (3 * self.t(first + k, BATCH, classes) for k in (0, 1))
        strong_student, strong_teacher = (
            3 * self.t(first + 3, BATCH, classes),
            strong * self.t(first + 4, BATCH, classes),
        )
        wanted = labels(first + 2, BATCH, classes)
        if first == 600:  # the teacher is sure of some images
            for logits, every in ((teacher, 2), (strong_teacher, 3)):
                logits[torch.arange(0, BATCH, every), wanted[::every]] += 12
        return Predictions(learned(student), teacher, wanted, learned(strong_student), strong_teacher)

    def head(self, k: int, width: int) -> nn.Linear:
        layer = nn.Linear(width, CLASSES).to(self.dtype).requires_grad_(False)
        layer.weight.copy_((2 / width) ** 0.5 * self.t(k, CLASSES, width))
        layer.bias.copy_(0.1 * self.t(k + 1, CLASSES))
        return layer

    def method(
        self,
        name: str,
        student: Sequence[Tensor] = (),
        teacher: Sequence[Tensor] = (),
        entry: str = "",
        batch_size: int = 64,
        **settings: Any,
    ) -> Any:
        """The method for maps and pooled features like these, in the published code's epoch (from 1): that which the
        entry names, or the last."""
        networks = [Ends(tensors, self.dtype) for tensors in (student, teacher)]
        own, theirs = (network.shapes for network in networks)
        images, recipe = torch.arange(50), Recipe(batch_size=batch_size)
        context = MethodContext(networks[0], own, CLASSES, images, networks[1], theirs, None, recipe)
        method = METHODS[name](method_settings(name, **settings), context).to(self.dtype)
        epoch = re.search(r"epoch(\d+)", entry)
        method.begin_epoch((int(epoch[1]) if epoch else 240) - method.first_epoch)
        return method


class Ends(Network):
    """A network that only has shapes and a classifier."""

    def __init__(self, tensors: Sequence[Tensor], dtype: torch.dtype) -> None:
        super().__init__()
        *maps, (embed_dim, *_) = [tuple(each.shape[1:]) for each in tensors] or [(4,)]
        self.shapes = FeatureShapes("network", tuple(maps), embed_dim)
        self.fc = nn.Linear(embed_dim, CLASSES).to(dtype)


class GivesMap(Network):
    """A network whose last map is what it is given."""

    def __init__(self, head: nn.Linear | None = None) -> None:
        super().__init__()
        self.fc = head

    def features(self, images: Tensor) -> Features:
        return Features(images, (images,), images, (images,), images)


def learned(value: Tensor) -> Tensor:
    return value.detach().clone(memory_format=torch.preserve_format).requires_grad_()


def features(logits: Tensor, *maps_and_pooled: Tensor) -> Features:
    *maps, pooled = maps_and_pooled or (logits.detach()[:, :4],)
    return Features(logits, tuple(maps), pooled, tuple(maps))


def batch_like(wanted: Tensor, views: int = 1) -> Batch:
    """Makes a batch of these labels, with ``views`` black images per label; no method here looks at the pixels."""
    images = torch.zeros(views * len(wanted), 3, 2, 2)
    return Batch(images, wanted, torch.arange(len(wanted)), None, torch.Generator())


def loss_of(
    entry: str, method: Method, student: Features, teacher: Features, batch: Batch, terms: Sequence[str] = ()
) -> Tensor:
    """The method's own terms or those of the names, weighted; with "total" in the entry its objective."""
    total, found = method(student, teacher, batch)
    if "total" in entry:
        return total
    settings: Any = method.settings
    weights = {"ce": settings.ce_weight, "kd": settings.kd_weight} | method.loss_weights
    return torch.stack([weights[name] * found.losses[name] for name in terms or method.loss_weights]).sum()
