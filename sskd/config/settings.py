"""Base classes of the settings of methods and pretext tasks."""

from typing import Annotated, Literal

from pydantic import AfterValidator, Field, NonNegativeFloat, PositiveFloat, model_validator

from sskd.config.fields import PlainName, StrictModel

SMALLEST, LARGEST = 1e-12, 1e6  # of non-zero numbers: beyond these, squares overflow or underflow in float32


class Settings(StrictModel):
    """Base class of the settings of methods and tasks, including the user's own. Numbers and their squares must be
    representable in float32."""

    @model_validator(mode="after")
    def _numbers_are_within_reason(self) -> "Settings":
        for key in type(self).model_fields:
            value = None if "seed" in key else getattr(self, key)
            for number in value if isinstance(value, tuple) else (value,):
                if isinstance(number, int | float) and number and not SMALLEST <= abs(number) <= LARGEST:
                    raise ValueError(f"{key} is {number:g}: it must be 0, or from {SMALLEST:g} to {LARGEST:g}")
        return self


def _row(label: str) -> str:
    if label != label.strip() or not label.isprintable() or len(label) > 60 or "|" in label or label == "Teacher":
        raise ValueError(
            "a label must have at most 60 printable characters, no '|', no spaces at its ends, and not be 'Teacher'"
        )
    return label


class MethodSettings(Settings):
    """Settings that every method has: the weights of cross-entropy and of Hinton's KD, which are added to the
    method's own terms."""

    name: PlainName
    """Name of the method (run_all.py list methods)."""
    label: Annotated[str, Field(exclude=True), AfterValidator(_row)] = ""
    """Name of this variant in tables, if a profile has two variants of a method. It is not part of the run or of its
    id."""
    ce_weight: NonNegativeFloat = 1.0
    """Weight of the cross-entropy with the labels, over the normal views."""
    kd_weight: NonNegativeFloat = 0.0
    """Weight of Hinton's KD loss, which can be added to every method."""
    kd_temperature: PositiveFloat = 4.0
    """Temperature of the student's and the teacher's predictions in Hinton's KD. The loss is multiplied by its
    square."""
    divergence: Literal["kl", "cross_entropy"] = "kl"
    """Loss between softened predictions. Both choices have the same gradient; the published code reports kl."""
    warmup_epochs: NonNegativeFloat = 0.0
    """Length of the linear warm-up from 0 of the weights of the method's own loss terms, in epochs of
    recipe.full_epochs; it scales like milestones."""


class PretextSettings(Settings):
    """A self-supervised task, and the transformation of its views."""

    name: PlainName
    """Name of the self-supervised task (run_all.py list pretexts)."""
    transformation: str = "rotation"
    """Transformation of the views: rotation (as in the published code) or paper (the four transformations named in
    the paper). Tasks with views of their own ignore it."""

    @property
    def trains_network(self) -> bool:
        """True if a network is trained together with the head. It then teaches in place of the frozen teacher."""
        return False
