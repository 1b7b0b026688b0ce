"""What is checked before anything is trained: whether a method can be used with two networks, and with a recipe."""

from typing import Any

from sskd.config.recipe import Recipe
from sskd.config.settings import MethodSettings
from sskd.data.mixing import mixes
from sskd.errors import UserError
from sskd.methods.base import FEATURE_NAMES, METHODS
from sskd.networks import FeatureShapes


def check_pair(settings: MethodSettings, student: FeatureShapes, teacher: FeatureShapes) -> None:
    """UserError where one of the networks lacks what the method needs, or the two cannot be used with it together."""
    kind = METHODS[settings.name]
    check_required_features(settings)
    for shapes in (student, teacher):
        lacks = ""
        if {"feature_maps", "preactivations"} & kind.required_features and not shapes.feature_maps:
            lacks = "feature maps"
        elif "preactivations" in kind.required_features and not shapes.preactivations:
            lacks = "maps before their ReLU beside those after it"
        if lacks:
            raise UserError(
                f"method '{settings.name}' needs {lacks}, and {shapes.network} gives none: "
                + (
                    f"its modules that do are named in network_settings.{shapes.network}.taps"
                    if lacks == "feature maps"
                    else "only a network of this suite, or derived from sskd.networks.Network, has them"
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
    """UserError where the method cannot be used with the recipe. Mixed images have no label of their own, are no single
    training image, and cannot be made before several views of each image."""
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
