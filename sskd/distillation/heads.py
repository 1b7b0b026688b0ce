"""Trains the head of a self-supervised task on a frozen teacher, for sskd and hsakd in other training loops."""

from collections.abc import Iterable, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from sskd.config.recipe import Recipe
from sskd.data.augment import Augmentation
from sskd.data.memory_loader import RGB
from sskd.distillation.adapt import as_network, shapes_of
from sskd.distillation.forward import Passes, TeacherForward
from sskd.distillation.inputs import Inputs, statistics_of
from sskd.errors import UserError
from sskd.optim import learning_rate_at, make_optimizer
from sskd.pretext import PRETEXTS, Pretext, PretextContext
from sskd.runs.settings import parse_pretext
from sskd.runtime.seeding import stream_seed

# published schedules: 100 epochs for hsakd, 60 for all other tasks
PUBLISHED: dict[str, dict[str, Any]] = {"hsakd": {"milestones": (30, 60, 90), "full_epochs": 100}}
OTHERS: dict[str, Any] = {"milestones": (30, 45), "full_epochs": 60}


def train_head(
    teacher: nn.Module,
    loader: Iterable[Sequence[Tensor]],
    task: str | dict[str, Any] = "contrastive",
    epochs: int = 60,
    *,
    learning_rate: float = 0.05,
    train_images: int | None = None,
    mean: RGB | None = None,
    std: RGB | None = None,
    augmentation: Augmentation | None = None,
    seed: int = 0,
) -> Pretext:
    """Trains a head for a self-supervised task on the teacher's features and returns it frozen.

    Uses SGD with momentum 0.9 and weight decay 5e-4. The learning rate is divided by 10 at the published fractions of
    the epochs (Xu et al. 2020: after 30 and 45 of 60).

    Args:
        teacher: see ``Distiller``. It is frozen and put into eval mode.
        loader: yields batches of images (B, 3, H, W), uint8 or normalised floats, then labels (B,) (for hsakd), then
            indices in the training set (B,) (for exemplar).
        task: contrastive, rotation, jigsaw, exemplar or hsakd, or a dict of its name and settings.
        train_images: number of training images, for exemplar.
        mean: see ``Distiller``.
        std: see ``Distiller``.
        augmentation: see ``Distiller``.
        seed: see ``Distiller``.
    """
    settings = parse_pretext(task)
    name, kind = settings.name, PRETEXTS[settings.name]
    sample = next(iter(loader))[0]
    with torch.no_grad():
        classes = teacher.eval()(sample[:1].to(next(teacher.parameters()).device).float()).shape[1]
    network = as_network(teacher, classes, whose="teacher").requires_grad_(False)
    shapes = shapes_of(network, sample, classes, "teacher")
    if not kind.evaluable_on_test and not train_images:
        raise UserError(f"the task '{name}' needs train_images, the number of training images")
    context = PretextContext(shapes.embed_dim, train_images or 0, shapes.network, classes)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(stream_seed(seed, "head"))
        head = kind(settings, context).to(next(network.parameters()).device).train()
    if head.network is not None:
        raise UserError(f"the task '{name}' trains a network with its head: use a run of the suite, and load_head")
    recipe = Recipe(epochs=epochs, learning_rate=learning_rate, **PUBLISHED.get(name, OTHERS))
    optimizer = make_optimizer(head.parameters(), recipe)
    view_transform, forward = kind.view_transform(settings), TeacherForward(network, kind.required_features, Passes())
    required = frozenset() if kind.evaluable_on_test else frozenset({"indices"})
    inputs = Inputs(
        f"the task '{name}'",
        classes,
        sample.shape[-1],
        required,
        statistics_of(mean, std),
        augmentation,
        train_images or 0,
    )
    for epoch in range(epochs):
        for group in optimizer.param_groups:
            group["lr"] = learning_rate_at(recipe, epoch)
        for step, (images, *more) in enumerate(loader):
            if kind.method is not None and not more:
                raise UserError(f"the task '{name}' needs labels: the loader must yield (images, labels)")
            labels = more[0] if more else torch.zeros(len(images), dtype=torch.int64, device=images.device)
            indices = more[1] if len(more) > 1 else None
            draws = torch.Generator(device=images.device).manual_seed(stream_seed(seed, "head", epoch, step))
            batch = inputs.batch(view_transform, images, labels, indices, None, draws, check_values=epoch == 0)
            loss, _ = head.loss(head.read(forward(batch.images)), batch)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
    return head.eval().requires_grad_(False)
