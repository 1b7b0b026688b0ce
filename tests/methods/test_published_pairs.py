"""Every method on every pair of Tables 3 and 4: it is built, and what predicts gives
logits, or it says before anything trains what does not fit. On torch's meta device: shapes alone, nothing is
computed."""

from functools import cache

import pytest
import torch

from sskd.config.recipe import Recipe
from sskd.errors import UserError
from sskd.methods import METHODS, Method, MethodContext, check_pair
from sskd.networks import Network, build_network, feature_shapes
from sskd.pretext import PRETEXTS, Pretext, PretextContext
from sskd.runs.settings import method_settings, published_settings
from tests.methods.pairs import PAIRS

CLASSES, IMAGES = 4, 40
WIDTHS_DIFFER = {
    ("wrn_40_2", "wrn_40_1"),
    ("vgg13", "MobileNetV2"),
    ("ResNet50", "MobileNetV2"),
    ("ResNet50", "vgg8"),
    ("resnet32x4", "ShuffleV1"),
    ("resnet32x4", "ShuffleV2"),
    ("wrn_40_2", "ShuffleV1"),
}
REFUSED = {"fsp": WIDTHS_DIFFER}  # docs/methods.md has the reasons, as the methods give them


@cache
def network_of(name: str) -> Network:
    """Shared by the methods that leave it as it is."""
    with torch.device("meta"):
        return build_network(name, CLASSES)


def head_of(method: str, teacher: str) -> Pretext | None:
    kind = METHODS[method]
    if not kind.needs_head:
        return None
    task = PRETEXTS[kind.head_task or "contrastive"]
    context = PretextContext(feature_shapes(teacher).width, IMAGES, teacher, CLASSES)
    with torch.device("meta"):
        return task(task.Settings(name=kind.head_task or "contrastive"), context).eval()


@pytest.mark.parametrize("method", list(METHODS))
def test_it_is_built_for_the_pair_or_says_what_does_not_fit(method: str) -> None:
    kind = METHODS[method]
    refused = {}
    for teacher, student in PAIRS:
        settings = method_settings(method, **published_settings({"name": method}, f"{teacher}/{student}"))
        student_shapes, teacher_shapes = feature_shapes(student), feature_shapes(teacher)
        try:
            check_pair(settings, student_shapes, teacher_shapes)
        except UserError as error:
            refused[teacher, student] = str(error)
            continue
        rebuilds = kind.predictor is not Method.predictor
        with torch.device("meta"):
            network = build_network(student, CLASSES) if rebuilds else network_of(student)
        labels = torch.arange(IMAGES) % CLASSES
        head = head_of(method, teacher)
        context = MethodContext(
            network, student_shapes, CLASSES, labels, network_of(teacher), teacher_shapes, head, Recipe()
        )
        with torch.device("meta"):
            made = kind(settings, context)
            predictor = made.predictor(network)
        if rebuilds:
            found = predictor.features(torch.empty(2, 3, 32, 32, device="meta"))
            assert found.logits.shape == (2, CLASSES)
        assert {p.device.type for p in made.parameters()} <= {"meta"}
        for stage in made.initial_stages():
            assert stage.epochs > 0
            assert any(list(module.parameters()) for module in stage.trained)
        assert made.views().per_image == kind.views_per_image
    assert refused.keys() == REFUSED.get(method, set())
    for (teacher, student), reason in refused.items():
        assert f"method '{method}'" in reason
        assert teacher in reason
        assert student in reason
