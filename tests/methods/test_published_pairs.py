"""Every method on every pair of Tables 3 and 4: it is built, what predicts gives logits, stages and loss have their
terms, all that is trained has a gradient, or it says before anything trains what does not fit. On torch's meta device:
shapes alone, nothing is computed."""

from functools import cache
from typing import Any

import pytest
import torch
from torch import nn

from sskd.config.recipe import Recipe
from sskd.data.batch import Batch
from sskd.errors import UserError
from sskd.methods import METHODS, Method, MethodContext, check_pair
from sskd.networks import Features, Network, build_network, feature_shapes
from sskd.pretext import PRETEXTS, Pretext, PretextContext
from sskd.runs.settings import method_settings, published_settings
from tests.methods.shapes import PAIRS

CLASSES, IMAGES, FEW = 4, 40, 8
WIDTHS_EQUAL = {("wrn_40_2", "wrn_16_2"), ("resnet56", "resnet20"), ("resnet32x4", "resnet8x4"), ("vgg13", "vgg8")}
NOT_ON_META = {"crd", "dot", "hsakd"}  # they draw contrasts; a branch's grouped convolution is not known there
LEARNED = {("wrn_40_2", "wrn_16_2"), ("resnet32x4", "ShuffleV1")}  # pairs on which gradients are looked at
DRAWN = {"fcfd"}  # a step trains the bridges of two paths
REFUSED = {"fsp": set(PAIRS) - WIDTHS_EQUAL}  # docs/methods.md has the reasons, as the methods give them


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
    context = PretextContext(feature_shapes(teacher).embed_dim, IMAGES, teacher, CLASSES)
    with torch.device("meta"):
        return task(task.Settings(name=kind.head_task or "contrastive"), context).eval()


@cache
def features_of(name: str, rows: int) -> Features:
    return network_of(name).features(torch.empty(rows, 3, 32, 32, device="meta"))


def with_gradient(loss: Any, parameters: set[nn.Parameter]) -> set[nn.Parameter]:
    listed = list(parameters)
    gradients = torch.autograd.grad(loss, listed, allow_unused=True, retain_graph=True)
    return {p for p, gradient in zip(listed, gradients, strict=True) if gradient is not None}


@pytest.mark.parametrize("method", list(METHODS))
def test_it_computes_its_loss_for_the_pair_or_says_what_does_not_fit(method: str) -> None:
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
        head, recipe = head_of(method, teacher), Recipe(batch_size=FEW)
        context = MethodContext(
            network, student_shapes, CLASSES, labels, network_of(teacher), teacher_shapes, head, recipe
        )
        with torch.device("meta"):
            made = kind(settings, context)
            predictor = made.predictor(network)
        assert {p.device.type for p in made.parameters()} <= {"meta"}
        views = made.view_transform().views_per_image
        assert views == kind.views_per_image
        with torch.device("meta"):
            images, indices = torch.empty(FEW * views, 3, 32, 32), torch.arange(FEW)
            batch = Batch(images, indices % CLASSES, indices, indices.repeat(views), torch.Generator())
        learned = predictor.features(images) if rebuilds else features_of(student, len(images))
        assert learned.logits.shape == (len(images), CLASSES)
        fixed = features_of(teacher, len(images))
        reached: set[nn.Parameter] = set()
        for stage in made.initial_stages():
            for module in stage.trained:
                module.train()
            terms = stage.loss(learned if stage.uses_student else None, fixed, batch)
            assert all(term.shape == () for term in terms.values())
            trained = {p for module in stage.trained for p in module.parameters()}
            if (teacher, student) in LEARNED:
                assert with_gradient(sum(terms.values()), trained) == trained
            reached |= trained
        made.train()
        if method not in NOT_ON_META:
            with torch.device("meta"):
                total, terms = made(learned, fixed if kind.needs_teacher else None, batch)
            assert total.shape == ()
            assert set(made.loss_weights) <= set(terms.losses) or not kind.needs_teacher
            modules = (made, predictor) if rebuilds else (made,)
            trained = {p for module in modules for p in module.parameters() if p.requires_grad} - reached
            if trained and (teacher, student) in LEARNED and method not in DRAWN:
                assert with_gradient(total, trained) == trained
    assert refused.keys() == REFUSED.get(method, set())
    for (teacher, student), reason in refused.items():
        assert f"method '{method}'" in reason
        assert teacher in reason
        assert student in reason
