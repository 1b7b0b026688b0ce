"""Methods for networks of the published shapes, and features of those shapes, without the networks."""

from typing import Any

import torch
from torch import Tensor

from sskd.data.batch import Batch
from sskd.methods import METHODS, Method, MethodContext
from sskd.networks import Features, FeatureShapes, Network
from sskd.runs.settings import method_settings
from tests.methods.pairs import published_shapes

CLASSES = 100


def features_of(shapes: FeatureShapes, batch: int, seed: int, gradient: bool) -> Features:
    """Random features as after a ReLU, in channels_last, as networks give them."""
    generator = torch.Generator().manual_seed(seed)

    def made(*shape: int) -> Tensor:
        values = torch.randn(batch, *shape, generator=generator).relu()
        return values.contiguous(memory_format=torch.channels_last) if len(shape) == 3 else values

    maps = tuple(made(*shape).requires_grad_(gradient) for shape in shapes.feature_maps)
    pooled = made(shapes.embed_dim).requires_grad_(gradient)
    logits = torch.randn(batch, CLASSES, generator=generator).requires_grad_(gradient)
    return Features(logits, maps, pooled, maps)


def batch_of(size: int) -> Batch:
    """Random labels; no method here looks at the images."""
    generator = torch.Generator().manual_seed(3)
    labels = torch.randint(0, CLASSES, (size,), generator=generator)
    return Batch(torch.zeros(size, 3, 2, 2), labels, torch.arange(size), None, generator)


def batch_like(labels: Tensor, views: int = 1) -> Batch:
    """The images of these labels, in so many views."""
    images = torch.zeros(views * len(labels), 3, 2, 2)
    return Batch(images, labels, torch.arange(len(labels)), None, torch.Generator())


def build(name: str, student: FeatureShapes, teacher: FeatureShapes, **settings: Any) -> Method:
    """The method for networks of these shapes, checked as at planning time."""
    chosen = method_settings(name, **settings)
    METHODS[name].check(chosen, student, teacher)
    network = Network()
    context = MethodContext(network, student, CLASSES, torch.arange(50), network, teacher)
    torch.manual_seed(0)
    return METHODS[name](chosen, context)


def assert_learns(name: str, teacher: str, student: str, terms: set[str] | None = None) -> None:
    """Finite terms, weighted in the total; gradients to the student and to all own parameters."""
    student_shapes, teacher_shapes = published_shapes(student), published_shapes(teacher)
    method = build(name, student_shapes, teacher_shapes, kd_weight=1.0)
    learned, fixed = features_of(student_shapes, 4, 1, gradient=True), features_of(teacher_shapes, 4, 2, gradient=False)
    total, found = method(learned, fixed, batch_of(4))

    terms = terms or {name}
    assert found.losses.keys() == {"ce", "kd"} | terms == {"ce", "kd"} | method.loss_weights.keys()
    expected = found.losses["ce"] + found.losses["kd"]
    for term, weight in method.loss_weights.items():
        assert weight > 0
        expected = expected + weight * found.losses[term]
    torch.testing.assert_close(total, expected)
    assert total.ndim == 0
    assert total.isfinite()

    own = torch.stack([found.losses[term] for term in terms]).sum()
    inputs = [*learned.feature_maps, learned.pooled, learned.logits]
    gradients = torch.autograd.grad(own, [*inputs, *method.parameters()], allow_unused=True)
    assert any(gradient is not None for gradient in gradients[: len(inputs)])
    assert all(gradient is not None for gradient in gradients[len(inputs) :])
    for gradient in gradients:
        assert gradient is None or (gradient.isfinite().all() and gradient.any())
