"""Checks that a user's pretext task fulfils the contract of ``Pretext``, on random features, before training."""

from typing import Any

import torch
from torch import Tensor

from sskd.config.recipe import Recipe
from sskd.config.settings import PretextSettings
from sskd.data.augmentations import AUGMENTATIONS
from sskd.data.batch import Batch
from sskd.data.views import ViewTransform
from sskd.errors import UserError
from sskd.networks import Features, FeatureShapes
from sskd.pretext.base import PRETEXTS, PretextContext

NUMBERS = 20_000_000  # most numbers in the features of a check; large images get a smaller batch
ROW = (
    "stage",
    "epoch",
    "rate",
    "seconds",
    "evaluation_seconds",
    "images_per_second",
    "images_skipped",
)  # other keys of metrics.jsonl


def fault_of(value: Any, learned: bool = True) -> str:
    """Returns why ``value`` is not a finite 0-d float tensor (if ``learned``: with gradient), or ""."""
    if not isinstance(value, Tensor):
        hint = ": .item() and float() remove the gradient" if isinstance(value, float) else ""
        return f"is a {type(value).__name__}, not a tensor{hint}"
    if value.dim():
        return f"is a tensor of shape {tuple(value.shape)}: expected one number (0-d), such as its mean"
    if value.dtype not in (torch.float32, torch.float64):
        return f"is {str(value.dtype).removeprefix('torch.')}; expected float32"
    if not value.isfinite():
        return f"is {value.item()} on random features"
    if learned and not value.requires_grad:
        return "has no gradient: remove detach() or no_grad()"
    return ""


def fault_of_logged(logged: Any) -> str:
    """Returns why ``logged`` cannot be logged with the losses (names to 0-d tensors), or ""."""
    if not hasattr(logged, "items"):
        return f"is a {type(logged).__name__}, not a dict"
    for name, value in logged.items():
        if not isinstance(name, str) or name.startswith(("loss", "test_", "held_out_")) or name in ROW:
            return f"has the name {name!r}, which has another meaning in metrics.jsonl"
        fault = fault_of(value, learned=False)
        if fault and "on random features" not in fault:
            return f"has '{name}', which {fault}"
    return ""


def batch_size(shapes: list[FeatureShapes], views: int, most: int) -> int:
    """Returns ``most``, or the batch size that keeps the features of all views below NUMBERS, but at least two."""
    numbers = sum(of.embed_dim + sum(torch.Size(each).numel() for each in of.feature_maps) for of in shapes)
    return max(2, min(most, NUMBERS // (views * numbers)))


def made_batch(view_transform: ViewTransform, images: int, of: int, classes: int, size: int, recipe: Recipe) -> Batch:
    """Returns a batch of random images (size x size) in their views, with the indices of the first of ``of`` training
    images. Raises UserError if the views have another shape."""
    generator = torch.Generator().manual_seed(0)
    pixels = torch.randint(256, (images, 3, size, size), dtype=torch.uint8)
    made, labels = view_transform(pixels, AUGMENTATIONS[recipe.augmentation](recipe), generator)
    if made.shape != (view_transform.views_per_image * images, 3, size, size):
        raise UserError(
            f"its views of {images} images, {view_transform.views_per_image} each, are a tensor of shape "
            f"{tuple(made.shape)}, not {(view_transform.views_per_image * images, 3, size, size)}"
        )
    return Batch(made / 127.5 - 1, torch.arange(images) % classes, torch.arange(images) % of, labels, generator)


def made_features(
    shapes: FeatureShapes, rows: int, classes: int, kept: frozenset[str], gradient: bool = False
) -> Features:
    """Returns random features of ``rows`` views, non-negative as after a ReLU, with the maps that ``kept`` names."""

    def leaf(*shape: int) -> Tensor:
        return torch.randn(rows, *shape)

    before = [leaf(*shape) for shape in shapes.feature_maps] if {"feature_maps", "preactivations"} & kept else []
    maps = [each.relu().requires_grad_(gradient) for each in before] if "feature_maps" in kept else []
    pooled = leaf(shapes.embed_dim).relu().requires_grad_(gradient)
    early = [each.requires_grad_(gradient) for each in before] if "preactivations" in kept else []
    given = shapes.pre_pool if "pre_pool" in kept else None
    pre_pool = leaf(*given).relu().requires_grad_(gradient) if given else None
    logits = (2 * leaf(classes)).requires_grad_(gradient)
    return Features(logits, tuple(maps), pooled, tuple(early), pre_pool)


def check_task(
    settings: PretextSettings, shapes: FeatureShapes, classes: int, images: int, size: int, recipe: Recipe
) -> None:
    """Builds the head for a network with these shapes and computes its loss in train and in eval mode. Raises UserError
    if it breaks the contract of ``Pretext``; exceptions of the task are passed on."""
    kind = PRETEXTS[settings.name]
    if not isinstance(kind.required_features, frozenset | set) or not kind.required_features <= {"feature_maps"}:
        raise UserError(
            f"its required_features are {kind.required_features!r}: expected an empty set or a set of 'feature_maps'"
        )
    head = kind(settings, PretextContext(shapes.embed_dim, images, shapes.network, classes))
    view_transform = head.view_transform(settings)
    count = batch_size([shapes], view_transform.views_per_image, recipe.batch_size)
    batch = made_batch(view_transform, count, images, classes, size, recipe)
    for training in (True, False):
        head.train(training)
        found = head.loss(
            head.read(made_features(shapes, len(batch.images), classes, frozenset(kind.required_features))), batch
        )
        if not isinstance(found, tuple) or len(found) != 2:
            raise UserError(f"its loss() returns a {type(found).__name__}, not the pair (loss, accuracy)")
        for name, value, learned in (("loss", found[0], True), ("accuracy", found[1], False)):
            if fault := fault_of(value, learned):
                raise UserError(f"its {name} {fault}")
        found[0].backward()
