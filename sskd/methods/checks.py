"""Checks before training that a method supports a pair of networks and a recipe."""

from typing import Any

from sskd.config.recipe import Recipe
from sskd.config.settings import MethodSettings
from sskd.data.mixing import mixes
from sskd.errors import UserError
from sskd.methods.base import FEATURE_NAMES, METHODS
from sskd.networks import FeatureShapes


def check_pair(settings: MethodSettings, student: FeatureShapes, teacher: FeatureShapes) -> None:
    """Raises UserError if a network lacks features that the method requires, or the method does not support the
    pair."""
    kind = METHODS[settings.name]
    check_required_features(settings)
    for shapes in (student, teacher):
        lacks = ""
        if {"feature_maps", "preactivations"} & kind.required_features and not shapes.feature_maps:
            lacks = "feature maps"
        elif "preactivations" in kind.required_features and not shapes.preactivations:
            lacks = "maps before their ReLU"
        if lacks:
            raise UserError(
                f"method '{settings.name}' needs {lacks}, and {shapes.network} gives none: "
                + (
                    f"name modules that output maps in network_settings.{shapes.network}.taps"
                    if lacks == "feature maps"
                    else "choose a network of this suite or one derived from sskd.networks.Network"
                )
            )
    kind.check(settings, student, teacher)


def check_required_features(settings: MethodSettings) -> None:
    """Raises UserError if the method's ``required_features`` are not a set of FEATURE_NAMES."""
    required: Any = METHODS[settings.name].required_features
    if not isinstance(required, frozenset | set) or not required <= FEATURE_NAMES:
        raise UserError(
            f"method '{settings.name}' has required_features = {required!r}; expected a set of some of "
            f"{', '.join(sorted(FEATURE_NAMES))}"
        )


def check_recipe(settings: MethodSettings, recipe: Recipe) -> None:
    """Raises UserError if the method does not support the recipe. Mixed images (mixup, CutMix) have no single label and
    no index in the training set, and several views of them cannot be made."""
    kind = METHODS[settings.name]
    reasons = {
        "compares several views of each image": kind.views_per_image > 1,
        "keeps something of each training image": "indices" in kind.required_features,
        "needs one label for each image": "labels" in kind.required_features,
    }
    why = next((reason for reason, holds in reasons.items() if holds), "")
    if why and mixes(recipe):
        raise UserError(f"method '{settings.name}' {why}: set recipe.{mixes(recipe)[0]} to 0")
    kind.check_recipe(settings, recipe)
