"""Checks the arguments of a Distiller and completes its method's settings."""

import warnings
from typing import Any

import torch
from torch import Tensor, nn

from sskd.config.settings import MethodSettings
from sskd.distillation.adapt import name_of, suggest_taps
from sskd.errors import UserError
from sskd.methods import METHODS, Method
from sskd.networks import FeatureShapes, Network
from sskd.pretext import Pretext
from sskd.runs.settings import method_settings, parse_method


def settings(method: str, **values: Any) -> MethodSettings:
    """Returns a method's settings; ``values`` override the published ones. Raises UserError for wrong values.

    Weights may be given by their name in the paper: ``sskd.settings("dkd", beta=8.0)``. A Distiller of two networks of
    this suite completes the settings with the values published for that pair.
    """
    of_paper = METHODS[method].paper_names
    return method_settings(method, **{of_paper.get(name, name): value for name, value in values.items()})


def chosen_settings(
    method: str | MethodSettings | type[Method], student: nn.Module, teacher: nn.Module | None, published: bool
) -> MethodSettings:
    """Returns the settings of a Distiller. Raises UserError for an unknown method."""
    if isinstance(method, type):
        found = [name for name in METHODS if METHODS[name] is method]
        if not found:
            raise UserError(f"{method.__name__} is not registered: decorate the class with @METHODS.register('a-name')")
        method = found[0]
    given = method if isinstance(method, MethodSettings) else method_settings(method)
    if not published or teacher is None:
        return given
    made: MethodSettings = parse_method(given, f"{name_of(teacher)}/{name_of(student)}")
    return made


def check_given(settings: MethodSettings, has_teacher: bool, head: Pretext | None) -> None:
    """Raises UserError if the teacher or the head is missing, or the head belongs to another task."""
    name, kind = settings.name, METHODS[settings.name]
    if (kind.needs_teacher or settings.kd_weight > 0) and not has_teacher:
        raise UserError(f"method '{name}' needs a teacher")
    if not kind.needs_head:
        return
    task = f", '{kind.head_task}'" if kind.head_task else ""
    if head is None:
        raise UserError(f"method '{name}' needs the teacher's head: head=sskd.train_head(teacher, loader{task})")
    if kind.head_task not in (None, head.settings.name) or head.method not in (None, name):
        raise UserError(f"method '{name}' needs a head of {'the task' + task[1:] if task else 'another task'}")


def check_taps(settings: MethodSettings, whose: str, module: nn.Module, shapes: FeatureShapes, sample: Tensor) -> None:
    """Raises UserError, with suggestions, if the method compares maps and no taps were given."""
    if (
        {"feature_maps", "preactivations"} & METHODS[settings.name].required_features
        and not isinstance(module, Network)
        and not shapes.feature_maps
    ):
        found = ", ".join(f"'{tap}' {shape}" for tap, shape in suggest_taps(module, sample, show=False).items())
        option = "taps" if whose == "student" else "teacher_taps"
        raise UserError(
            f"method '{settings.name}' compares maps: name modules of the {whose} in {option}, such as {found}"
        )


def labels_of_images(settings: MethodSettings, train_labels: Tensor | None, train_images: int | None) -> Tensor:
    """Returns the labels of all training images, (N,) int64. If only N is given, each image is its own class. Raises
    UserError if the method needs labels and both are missing."""
    if train_labels is not None:
        return train_labels
    if "indices" in METHODS[settings.name].required_features:
        if not train_images:
            raise UserError(f"method '{settings.name}' needs train_labels, the labels of all training images")
        warnings.warn(
            f"method '{settings.name}' has no train_labels: its negatives are all other images, not, as "
            "published, only those of other classes",
            stacklevel=3,
        )
    return torch.arange(train_images or 0)


def required_steps(method: Method, has_teacher: bool) -> dict[str, str]:
    """Returns the steps that must precede the main training: function name to error message."""
    name, found = method.settings.name, dict[str, str]()
    if has_teacher and method.studies:
        found["study"] = (
            f"method '{name}' needs statistics of the teacher's features of all training images: call "
            "distiller.study(loader) first"
        )
    if type(method).optimizer is not Method.optimizer:
        found["optimizer"] = f"method '{name}' has its own optimiser: create it with distiller.optimizer(recipe)"
    if has_teacher and (stages := method.initial_stages()):
        found["initial_stages"] = (
            f"method '{name}' has initial stages ({', '.join(stage.name for stage in stages)}): train each stage of "
            "distiller.initial_stages() first"
        )
    return found
