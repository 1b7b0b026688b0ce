"""The pairs of the paper's Tables 3 and 4 (teacher, student), as shapes alone and as networks."""

import torch
from torch import Tensor

from sskd.data.batch import Batch
from sskd.methods import MethodContext
from sskd.networks import Features, FeatureShapes, build_network
from tests import golden

SIMILAR = [
    ("wrn_40_2", "wrn_16_2"),
    ("wrn_40_2", "wrn_40_1"),
    ("resnet56", "resnet20"),
    ("resnet32x4", "resnet8x4"),
    ("vgg13", "vgg8"),
]
OTHER = [
    ("vgg13", "MobileNetV2"),
    ("ResNet50", "MobileNetV2"),
    ("ResNet50", "vgg8"),
    ("resnet32x4", "ShuffleV1"),
    ("resnet32x4", "ShuffleV2"),
    ("wrn_40_2", "ShuffleV1"),
]
PAIRS = SIMILAR + OTHER


def published_shapes(name: str) -> FeatureShapes:
    """Returns shapes from the published networks' golden values, not from this project's networks."""
    features = golden.architecture(name)["features"]
    *maps, (embed_dim,) = (tuple(each["shape"][1:]) for each in features)
    return FeatureShapes(name, tuple(maps), embed_dim)


def context(teacher: str, student: str, classes: int = 4, images: int = 40) -> MethodContext:
    """Real, untrained networks on the default device; published shapes."""
    return MethodContext(
        student=build_network(student, classes),
        student_shapes=published_shapes(student),
        num_classes=classes,
        labels=torch.arange(images) % classes,
        teacher=build_network(teacher, classes),
        teacher_shapes=published_shapes(teacher),
    )


def features_like(shapes: FeatureShapes, batch: int = 2) -> Features:
    """Random features of those shapes, on the default device."""
    maps = tuple(torch.randn(batch, *shape) for shape in shapes.feature_maps)
    pooled = torch.randn(batch, shapes.embed_dim)
    return Features(torch.randn(batch, 4), maps, pooled, maps)


def a_batch(images: Tensor, seed: int = 0) -> Batch:
    count = len(images)
    generator = torch.Generator().manual_seed(seed)
    return Batch(images, torch.arange(count) % 4, torch.arange(count), None, generator)
