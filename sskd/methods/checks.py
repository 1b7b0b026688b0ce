"""What is checked before anything is trained: whether a method can be used with two networks, and with a recipe."""

from typing import Any

from sskd.config.recipe import Recipe
from sskd.config.settings import MethodSettings
from sskd.data.mixing import mixes
from sskd.errors import UserError
from sskd.methods.base import METHODS, NEEDS
from sskd.networks import FeatureShapes


def check_pair(settings: MethodSettings, student: FeatureShapes, teacher: FeatureShapes) -> None:
    """UserError where one of the networks lacks what the method needs, or the two cannot be used with it together."""
    kind = METHODS[settings.name]
    check_needs(settings)
    for shapes in (student, teacher):
        lacks = ""
        if {"taps", "preactivations"} & kind.needs and not shapes.maps:
            lacks = "feature maps"
        elif "preactivations" in kind.needs and not shapes.preactivations:
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


def check_needs(settings: MethodSettings) -> None:
    """UserError where the method's ``needs`` are no set of NEEDS."""
    needs: Any = METHODS[settings.name].needs
    if not isinstance(needs, frozenset | set) or not needs <= NEEDS:
        raise UserError(
            f"method '{settings.name}' has needs = {needs!r}: a set is wanted of {', '.join(sorted(NEEDS))}"
        )


def check_recipe(settings: MethodSettings, recipe: Recipe) -> None:
    """UserError where the method cannot be used with the recipe. Mixed images have no label of their own, are no single
    training image, and cannot be made before several views of each image."""
    kind = METHODS[settings.name]
    reasons = {
        "compares several views of each image": kind.views_per_image > 1,
        "keeps something of each training image": "indices" in kind.needs,
        "needs one label for each image": "labels" in kind.needs,
    }
    why = next((reason for reason, holds in reasons.items() if holds), "")
    if why and mixes(recipe):
        raise UserError(f"method '{settings.name}' {why}: set recipe.{mixes(recipe)[0]} to 0")
    kind.check_recipe(settings, recipe)
