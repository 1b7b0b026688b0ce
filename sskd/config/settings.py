"""What every method and every pretext task can be given."""

from typing import Annotated, Literal

from pydantic import AfterValidator, Field, NonNegativeFloat, PositiveFloat, model_validator

from sskd.config.fields import PlainName, StrictModel

SMALLEST, LARGEST = 1e-12, 1e6  # beside 0: what is further out overflows or vanishes in float32


class Settings(StrictModel):
    """Of methods and tasks, the user's own too. Their numbers are such that float32 holds them and their squares."""

    @model_validator(mode="after")
    def _numbers_are_within_reason(self) -> "Settings":
        for key in type(self).model_fields:
            value = None if "seed" in key else getattr(self, key)
            for number in value if isinstance(value, tuple) else (value,):
                if isinstance(number, int | float) and number and not SMALLEST <= abs(number) <= LARGEST:
                    raise ValueError(f"{key} is {number:g}; a number is 0, or from {SMALLEST:g} to {LARGEST:g}")
        return self


def _row(label: str) -> str:
    if label != label.strip() or not label.isprintable() or len(label) > 60 or "|" in label or label == "Teacher":
        raise ValueError("a label names a row: at most 60 characters, no '|', no blank at its ends, and not 'Teacher'")
    return label


class MethodSettings(Settings):
    """What every method has: the weights of cross-entropy and of Hinton's KD beside the method's own terms."""

    name: PlainName
    """Which method: run_all.py list methods names them."""
    label: Annotated[str, Field(exclude=True), AfterValidator(_row)] = ""
    """What tables call this variant, where a profile has two of one method. It is no part of the run or of its id."""
    ce_weight: NonNegativeFloat = 1.0
    """Of the cross-entropy with the labels, over the images' normal views."""
    kd_weight: NonNegativeFloat = 0.0
    """Of Hinton's distillation, which can be added to every method."""
    kd_temperature: PositiveFloat = 4.0
    """The temperature that softens both sides in Hinton's distillation; its loss is multiplied by its square."""
    divergence: Literal["kl", "cross_entropy"] = "kl"
    """Of softened predictions. Both have the same gradient; the published code reports kl."""
    warmup_epochs: NonNegativeFloat = 0.0
    """The weights of the method's own terms rise linearly from 0, for this many epochs of recipe.full_epochs; they
    scale like milestones."""


class PretextSettings(Settings):
    """A self-supervised task and the transformations that make its views."""

    name: PlainName
    """Which self-supervised task: run_all.py list pretexts names them."""
    transformation: str = "rotation"
    """What makes the transformed views: rotation (the published code's) or paper (the four that the paper names).
    Tasks that make their own views leave it aside."""
