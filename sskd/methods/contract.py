"""Checks that a user's method fulfils the contract of ``Method``, on random features, before training."""

import math
from collections.abc import Callable, Mapping
from itertools import chain
from numbers import Real
from typing import Any

import torch
from torch import Tensor

from sskd.config.settings import MethodSettings
from sskd.data.batch import Batch
from sskd.data.views import SingleView, ViewTransform
from sskd.errors import UserError, described, nearest, source_of
from sskd.methods.base import FEATURE_NAMES, METHODS, InitialStage, LossTerms, Method, MethodContext
from sskd.methods.checks import check_required_features
from sskd.networks import Features, Network
from sskd.pretext.contract import batch_size, fault_of, fault_of_logged, made_batch, made_features


def check_method(settings: MethodSettings, new_context: Callable[[], MethodContext], size: int) -> None:
    """Builds the method and computes its losses on random features: a few images in train mode and in eval mode, and
    the last batch of the last epoch.

    The features only have what ``required_features`` names. size: side of the images in pixels. Raises UserError, with
    the name of the term, if the method breaks the contract; exceptions of the method are passed on.
    """
    kind = METHODS[settings.name]
    check_required_features(settings)
    required = frozenset(kind.required_features)
    try:
        _try(settings, new_context(), size, required)
    except Exception as problem:  # breach of the contract, or any exception of the method
        try:
            _try(settings, new_context(), size, FEATURE_NAMES)
        except Exception:
            raise problem from None
        named = ", ".join(sorted(required)) or "nothing"
        said = described(problem, source_of(kind.loss_terms)[0])
        raise UserError(
            f"it uses features that its required_features do not name (they name {named}): {said}"
        ) from None


def _try(settings: MethodSettings, context: MethodContext, size: int, kept: frozenset[str]) -> None:
    recipe, count = context.recipe, len(context.labels)
    method = METHODS[settings.name](settings, context)
    student = method.predictor(context.student)
    if not isinstance(student, Network):
        raise UserError(f"its predictor() returns a {type(student).__name__}, not a Network")
    shapes = [of for of in (context.student_shapes, context.teacher_shapes) if of is not None]

    def made(view_transform: ViewTransform, planned: int) -> Batch:
        images = batch_size(shapes, view_transform.views_per_image, planned)
        return made_batch(view_transform, images, count, context.num_classes, size, recipe)

    def features(batch: Batch) -> tuple[Features, Features | None]:
        rows, teacher = len(batch.images), context.teacher_shapes
        given = made_features(teacher, rows, context.num_classes, kept) if teacher is not None else None
        if student is not context.student:
            return student.features(batch.images), given
        return made_features(context.student_shapes, rows, context.num_classes, kept, gradient=True), given

    # 1. the initial stages, in which nothing else is in train mode
    stages = method.initial_stages()
    names = [*(stage.name for stage in stages), "main"]
    if len(set(names)) < len(names):
        raise UserError(f"its stages have equal names: {', '.join(names)}")
    for stage in stages:
        method.eval()
        _check_stage(stage, made(SingleView(), recipe.batch_size), features)

    # 2. the main stage
    given: dict[str, bool] = {}  # terms, and whether they had a gradient in any step
    reached = False

    def step(training: bool, epoch: int, images: int) -> None:
        nonlocal reached
        student.train(training)
        method.train(training)
        method.begin_epoch(epoch)
        batch = made(method.view_transform(), images)
        learned, fixed = features(batch)
        terms = _own_terms(method, learned, fixed, batch)
        for name, value in terms.items():
            given[name] = given.get(name, False) or value.requires_grad
        reached = _reaches(method.loss_weights, terms, learned, context.student, student) or reached
        total, _ = method(*features(batch), batch)
        if fault := fault_of(total):
            raise UserError(f"its total {fault}")
        if training:
            total.backward()
            with torch.no_grad():
                method.after_step()

    step(True, 0, recipe.batch_size)
    step(False, 0, recipe.batch_size)
    last = count % recipe.batch_size
    try:
        step(True, recipe.epochs - 1, last if last > 1 else recipe.batch_size)
    except Exception as error:
        if last < 2 or isinstance(error, UserError):
            raise
        problem = described(error, source_of(method.loss_terms)[0])
        raise UserError(f"in the last batch of an epoch, which has {last} images: {problem}") from None
    _check_all(method, given, reached)
    _check_frozen(context)


def _check_stage(
    stage: InitialStage, batch: Batch, features: Callable[[Batch], tuple[Features, Features | None]]
) -> None:
    whose = f"its initial stage '{stage.name}'"
    if stage.epochs < 1:
        raise UserError(f"{whose} has {stage.epochs!r} epochs")
    for module in stage.trained:
        module.train()
    if not any(p.requires_grad for p in chain.from_iterable(module.parameters() for module in stage.trained)):
        raise UserError(f"{whose} trains no parameter")
    student, teacher = features(batch)
    assert teacher is not None
    terms = stage.loss(student if stage.uses_student else None, teacher, batch)
    _check_terms(terms, whose)
    if not any(value.requires_grad for value in terms.values()):
        raise UserError(f"{whose} has no term with a gradient")
    torch.stack(list(terms.values())).sum().backward()


def _own_terms(method: Method, student: Features, teacher: Features | None, batch: Batch) -> dict[str, Tensor]:
    """Returns the method's own terms after checking that each is a number with a weight."""
    if teacher is None:
        return {}
    found = method.loss_terms(student, teacher, batch)
    if not isinstance(found, LossTerms):
        raise UserError(f"its loss_terms() returns a {type(found).__name__}, not LossTerms")
    _check_terms(found.losses, "its loss_terms()")
    if fault := fault_of_logged(found.logged):
        raise UserError(f"what it logs {fault}")
    of = type(method).loss_weights  # the property itself, because nn.Module hides its exceptions
    weights: Any = of.fget(method) if isinstance(of, property) and of.fget else method.loss_weights
    if not isinstance(weights, Mapping):
        raise UserError(f"its loss_weights are a {type(weights).__name__}, not a dict (or a property that returns one)")
    for name, weight in weights.items():
        if not isinstance(weight, Real) or not math.isfinite(weight):
            raise UserError(f"the weight of its term '{name}' is {weight!r}; expected a finite number")
    for name in found.losses:
        if name not in weights:
            near = nearest(name, weights)
            raise UserError(
                f"its term '{name}' has no weight: loss_weights has {', '.join(map(repr, weights)) or 'none'}"
                + (f"; did you mean '{near}'?" if near else "")
            )
    return dict(found.losses)


def _check_terms(terms: Any, whose: str) -> None:
    if not isinstance(terms, Mapping):
        raise UserError(f"the terms of {whose} are a {type(terms).__name__}, not a dict")
    for name, value in terms.items():
        if not isinstance(name, str):
            raise UserError(f"{whose} names a term {name!r}; expected a string")
        if fault := fault_of(value, learned=False):
            raise UserError(f"its term '{name}' {fault}")


def _reaches(weights: Mapping[str, float], terms: Mapping[str, Tensor], student: Features, *networks: Network) -> bool:
    """Returns True if the weighted terms have a gradient for the student's features or for a weight of the networks."""
    weighted = [weights[name] * value for name, value in terms.items() if value.requires_grad and weights[name]]
    pre_pool = () if student.pre_pool is None else (student.pre_pool,)
    weights_of = chain.from_iterable(network.parameters() for network in networks)
    tensors = (student.logits, student.pooled, *student.feature_maps, *student.preactivations, *pre_pool, *weights_of)
    unique = {id(tensor): tensor for tensor in tensors if tensor.requires_grad}
    if not weighted or not unique:
        return False
    found = torch.autograd.grad(torch.stack(weighted).sum(), list(unique.values()), allow_unused=True)
    return any(gradient is not None for gradient in found)


def _check_all(method: Method, given: Mapping[str, bool], reached: bool) -> None:
    """Raises UserError if a term with a weight is missing or has no gradient, or none reaches the student."""
    weights = {name: weight for name, weight in method.loss_weights.items() if weight}
    for name in weights:
        if name not in given:
            raise UserError(f"its term '{name}' is missing: loss_weights names it, and loss_terms() does not return it")
        if not given[name]:
            raise UserError(f"its term '{name}' {fault_of(torch.zeros(()))}")
    if weights and not reached:
        raise UserError(f"no gradient of its terms ({', '.join(weights)}) reaches the student")


def _check_frozen(context: MethodContext) -> None:
    for name, module in (("teacher", context.teacher), ("teacher's head", context.head)):
        if module is not None and any(parameter.requires_grad for parameter in module.parameters()):
            raise UserError(f"it makes its {name} trainable: keep requires_grad False for frozen networks")
        if module is not None and any(part.training for part in module.modules()):
            raise UserError(f"it puts its {name} into train mode: keep frozen networks in eval mode")
