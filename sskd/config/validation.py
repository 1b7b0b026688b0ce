"""Makes typed models of plain data; what is wrong with the data is one line for a person."""

from typing import Any

from pydantic import TypeAdapter, ValidationError

from sskd.config.fields import StrictModel, as_shown
from sskd.errors import UserError

UNKNOWN = "unknown_"  # begins the error type of a union whose key KEY chooses none of its kinds: "unknown_KEY"


def from_dict(model: type[StrictModel] | TypeAdapter[Any], data: Any, where: str) -> Any:
    """Validates YAML data, of one model or of a union of them. UserError names the file or option (``where``), the
    key's path and what is wrong."""
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
    if first["type"].startswith(UNKNOWN):  # which of a union's kinds is meant: the key that says it is to blame
        parts.append(key := first["type"].removeprefix(UNKNOWN))
        found, message = (found[key], message) if key in found else ({}, "Field required")
    path = ".".join(part for part in parts if not part.startswith("<"))  # without the names of a union's kinds
    more = f" (and {error.error_count() - 1} more)" if error.error_count() > 1 else ""
    shown = f", found {as_shown(found)}" if not isinstance(found, dict) else ""
    return f"{path + ': ' if path else ''}{message}{shown}{more}"
