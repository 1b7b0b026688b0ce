"""Data to a typed model: what is wrong is said in one line."""

from typing import Any

from pydantic import (
    ValidationError,
)

from sskd.config.fields import StrictModel, _shown
from sskd.errors import UserError


def from_dict(model: type[StrictModel], data: Any, where: str) -> Any:
    """Validates YAML data. UserError names the file or option (``where``), the key's path and what is wrong."""
    if not isinstance(data, dict):
        raise UserError(f"{where}: expected a mapping of keys to values, found {type(data).__name__}")
    try:
        return model.model_validate(data)
    except ValidationError as error:
        raise UserError(f"{where}: {_first_line(error)}") from None
    except UserError as error:  # an unknown method, network, ... found while validating
        raise UserError(f"{where}: {error}") from None


def _first_line(error: ValidationError) -> str:
    first = error.errors(include_url=False)[0]
    path = ".".join(str(part) for part in first["loc"] if part not in ("trained", "pretrained"))
    message = first["msg"].removeprefix("Value error, ")
    more = f" (and {error.error_count() - 1} more)" if error.error_count() > 1 else ""
    shown = f", found {_shown(first['input'])}" if not isinstance(first["input"], dict) else ""
    return f"{path + ': ' if path else ''}{message}{shown}{more}"
