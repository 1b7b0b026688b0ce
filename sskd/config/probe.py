"""Settings of linear probes."""

from typing import Annotated

from pydantic import Field

from sskd.config.fields import Distinct, StrictModel, TupleFromList
from sskd.config.recipe import DatasetSpec


class ProbeSettings(StrictModel):
    """A linear classifier on the frozen features of a network, evaluated on other data sets than the network was
    trained on."""

    datasets: Annotated[tuple[DatasetSpec, ...], Field(min_length=1), TupleFromList, Distinct] = (
        DatasetSpec(name="stl10"),
        DatasetSpec(name="tiny-imagenet"),
    )
    """Data sets: the classifier is trained on their training images and evaluated on their test images."""
    l2: Annotated[float, Field(ge=0, le=1e6)] = 1e-4
    """L2 regularisation: this coefficient times the squared norm of the weight matrix (not the bias) is added to the
    mean cross-entropy."""
    iterations: Annotated[int, Field(gt=0, le=100_000)] = 200
    """Maximum number of L-BFGS iterations. L-BFGS stops earlier if the gradient is nearly zero."""
