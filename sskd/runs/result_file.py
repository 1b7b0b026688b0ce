"""Reads result.json for reports and plans."""

import json
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter

from sskd.config.validation import from_dict
from sskd.errors import UserError
from sskd.runs.files import one_line
from sskd.runs.records import SCHEMA, Result

RESULT = TypeAdapter(Result)


def read_result(path: Path, role: str) -> dict[str, Any]:
    """Returns a validated result.json. Raises UserError with the file, the problem, and what to do."""
    try:
        result: dict[str, Any] = json.loads(path.read_bytes())
        version = result.get("schema") if isinstance(result, dict) else 0
        newer = isinstance(version, int) and version > SCHEMA
        if not newer:
            checked: Result = from_dict(RESULT, result, path.name)
            if role != "head" and None in (checked.best.test_top1, checked.last.test_top1):
                raise UserError("test_top1 is missing")
    except (UserError, OSError, ValueError, RecursionError) as error:  # ValueError: not JSON, or not UTF-8
        raise UserError(f"cannot read {path}: {one_line(error)}; delete it to rerun the run") from None
    if newer:
        raise UserError(f"{path} has format version {version}, but this suite reads up to {SCHEMA}: update the suite")
    return result
