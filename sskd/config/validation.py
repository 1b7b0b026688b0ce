"""Validates plain data as typed models, and reports the first error in one line."""

from typing import Any

from pydantic import BaseModel, TypeAdapter, ValidationError

from sskd.config.fields import as_shown
from sskd.errors import UserError

UNKNOWN = "unknown_"  # prefix of the error type if the discriminator KEY of a union has no valid value: "unknown_KEY"


def from_dict(model: type[BaseModel] | TypeAdapter[Any], data: Any, where: str) -> Any:
    """Validates YAML data with a model, or with a union of models. Raises UserError with the file or option
    (``where``), the path of the key, and the problem."""
    if not isinstance(data, dict):
        raise UserError(f"{where}: expected a mapping of keys to values, found {type(data).__name__}")
    try:
        return model.validate_python(data) if isinstance(model, TypeAdapter) else model.model_validate(data)
    except ValidationError as error:
        raise UserError(f"{where}: {_first_line(error)}") from None
    except UserError as error:  # an unknown method, network, ... found while validating
        raise UserError(f"{where}: {error}") from None


def _first_line(error: ValidationError) -> str:
    first = error.errors(include_url=False)[0]
    found, parts = first["input"], [str(part) for part in first["loc"]]
    message = first["msg"].removeprefix("Value error, ")
    if first["type"].startswith(UNKNOWN):  # the discriminator of a union is wrong
        parts.append(key := first["type"].removeprefix(UNKNOWN))
        found, message = (found[key], message) if key in found else ({}, "Field required")
    path = ".".join(part for part in parts if not part.startswith("<"))  # without the tags of a union
    more = f" (and {error.error_count() - 1} more)" if error.error_count() > 1 else ""
    shown = f", found {as_shown(found)}" if not isinstance(found, dict) else ""
    return f"{path + ': ' if path else ''}{message}{shown}{more}"
