"""result.json as reports and plans read it: numbers are numbers, or the file is named."""

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
    """Returns a result.json whose numbers are numbers. UserError says which file is damaged, where, and what to do."""
    try:
        result: dict[str, Any] = json.loads(path.read_bytes())
        version = result.get("schema") if isinstance(result, dict) else 0
        newer = isinstance(version, int) and version > SCHEMA
        if not newer:
            checked: Result = from_dict(RESULT, result, path.name)
            if role != "head" and None in (checked.best.test_top1, checked.last.test_top1):
                raise UserError("it has no test_top1")
    except (UserError, OSError, ValueError, RecursionError) as error:  # ValueError: not JSON, or not UTF-8
        raise UserError(f"cannot read {path}: {one_line(error)}; delete it to have the run done again") from None
    if newer:
        raise UserError(f"{path} is of version {version} of the format, and this suite reads up to {SCHEMA}: update it")
    return result
