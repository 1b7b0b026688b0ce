"""The pairs of the paper's Tables 3 and 4 (teacher, student), and methods and features of their published shapes."""

from typing import Any

import torch

from sskd.methods import METHODS, Method, MethodContext
from sskd.networks import Features, FeatureShapes, Network
from sskd.runs.settings import method_settings
from tests import golden

PAIRS = [
    ("wrn_40_2", "wrn_16_2"),
    ("wrn_40_2", "wrn_40_1"),
    ("resnet56", "resnet20"),
    ("resnet32x4", "resnet8x4"),
    ("vgg13", "vgg8"),
    ("vgg13", "MobileNetV2"),
    ("ResNet50", "MobileNetV2"),
    ("ResNet50", "vgg8"),
    ("resnet32x4", "ShuffleV1"),
    ("resnet32x4", "ShuffleV2"),
    ("wrn_40_2", "ShuffleV1"),
]
FLAT = FeatureShapes("flat", (), 64)


def published_shapes(name: str) -> FeatureShapes:
    """Returns shapes from the published networks' golden values, not from this project's networks."""
    *maps, (embed_dim,) = (tuple(each["shape"][1:]) for each in golden.architecture(name)["features"])
    return FeatureShapes(name, tuple(maps), embed_dim)


def features_like(shapes: FeatureShapes, batch: int = 4, classes: int = 4) -> Features:
    """Random features of those shapes, on the default device."""
    maps = tuple(torch.randn(batch, *shape) for shape in shapes.feature_maps)
    return Features(torch.randn(batch, classes), maps, torch.randn(batch, shapes.embed_dim), maps)


def build(name: str, student: FeatureShapes, teacher: FeatureShapes, classes: int = 4, **settings: Any) -> Method:
    """The method for networks of these shapes, checked as at planning time."""
    torch.manual_seed(0)
    chosen = method_settings(name, **settings)
    METHODS[name].check(chosen, student, teacher)
    context = MethodContext(Network(), student, classes, torch.arange(40) % classes, Network(), teacher)
    return METHODS[name](chosen, context)
