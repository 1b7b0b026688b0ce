"""What a linear probe is."""

from typing import Annotated

from pydantic import Field

from sskd.config.fields import Distinct, StrictModel, TupleFromList
from sskd.config.recipe import DatasetSpec


class ProbeSettings(StrictModel):
    """A linear classifier on the frozen features of a network, for other images than those it has learned from."""

    datasets: Annotated[tuple[DatasetSpec, ...], Field(min_length=1), TupleFromList, Distinct] = (
        DatasetSpec(name="stl10"),
        DatasetSpec(name="tiny-imagenet"),
    )
    """Whose training images the classifier learns from, and whose test images it is measured on."""
    l2: Annotated[float, Field(ge=0, le=1e6)] = 1e-4
    """The weight of the squared weights beside the mean cross-entropy."""
    iterations: Annotated[int, Field(gt=0, le=100_000)] = 200
    """At most so many of L-BFGS, which stops where the gradient is nearly zero."""
