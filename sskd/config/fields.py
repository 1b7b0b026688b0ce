"""Field types, and the base class of all specs: immutable, strictly typed, without unknown keys."""

import os
from collections.abc import Mapping
from functools import cached_property
from typing import Annotated, Any, ClassVar

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    model_validator,
)

from sskd.errors import nearest

Fraction = Annotated[float, Field(gt=0, le=1)]
Probability = Annotated[float, Field(ge=0, le=1)]
Decay = Annotated[float, Field(ge=0, lt=1)]
Epochs = Annotated[int, Field(gt=0, le=100_000)]
LearningRate = Annotated[float, Field(gt=0, le=1000)]
Pixels = Annotated[int, Field(ge=8, le=4096)]  # side of an image
TupleFromList = BeforeValidator(lambda value: tuple(value) if isinstance(value, list) else value)  # YAML has no tuples


def _distinct(values: tuple[Any, ...] | None) -> tuple[Any, ...] | None:
    for index, value in enumerate(values or ()):
        if value in (values or ())[:index]:
            raise ValueError(f"{as_shown(getattr(value, 'name', value))} is named twice")
    return values


def check_plain_name(name: str) -> str:
    """Returns the name. Raises ValueError if it cannot be part of a path."""
    if not name or len(name) > 100 or name[0] in ".-" or not name.isprintable() or set(name) & set("/\\:"):
        raise ValueError(
            "the name is used in paths: it must not contain slashes, colons or control characters, or begin with . or -"
        )
    return name


Distinct = AfterValidator(_distinct)  # a duplicate would be counted as a second measurement
# a path on this machine; ~ is expanded to the user's home
FilePath = Annotated[str, AfterValidator(os.path.expanduser)]
PlainName = Annotated[str, AfterValidator(check_plain_name)]


class StrictModel(BaseModel):
    """Base class of all specs: immutable, strictly typed; an unknown key raises an error that suggests the nearest
    name.

    ``removed``: deprecated keys. Each maps to the only value that is still supported, or to None if the key never
    changed results. Old files may contain these keys: a supported value is ignored, any other value raises an error.
    """

    model_config = ConfigDict(
        frozen=True,
        extra="forbid",
        strict=True,
        allow_inf_nan=False,
        ignored_types=(cached_property,),
        use_attribute_docstrings=True,  # run_all.py explain prints them
    )
    removed: ClassVar[Mapping[str, Any]] = {}

    @model_validator(mode="before")
    @classmethod
    def _check_keys(cls, data: Any) -> Any:
        """Returns the data without ``removed`` keys. Raises ValueError if a key is unknown."""
        if not isinstance(data, dict):
            return data
        for key in cls.removed.keys() & data.keys():
            if cls.removed[key] not in (None, data[key]):
                raise ValueError(f"'{key}' is deprecated and only '{cls.removed[key]}' is supported: remove it")
        data = {key: value for key, value in data.items() if key not in cls.removed}
        for key in data:
            if key not in cls.model_fields:
                near = nearest(str(key), cls.model_fields)
                hint = f"did you mean '{near}'?" if near else f"known: {', '.join(cls.model_fields)}"
                raise ValueError(f"unknown key '{key}'; {hint}")
        return data


def as_shown(value: Any) -> str:
    """Returns the repr of a value for an error message, cut at 80 characters."""
    text = repr(value)
    return text if len(text) <= 80 else text[:77] + "..."
