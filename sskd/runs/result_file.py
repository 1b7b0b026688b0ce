"""result.json as reports and plans read it: numbers are numbers, or the file is named."""

import json
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from sskd.errors import UserError
from sskd.runs.records import SCHEMA, Result


def read_result(path: Path, role: str) -> dict[str, Any]:
    """A result.json whose numbers are numbers. UserError says which file is damaged, where, and what to do."""
    try:
        result: dict[str, Any] = json.loads(path.read_bytes())
        if isinstance(result, dict) and isinstance(of := result.get("schema"), int) and of > SCHEMA:
            raise UserError(f"{path} is of version {of} of the format, and this suite reads up to {SCHEMA}: update it")
        checked = Result.model_validate(result)
        if role != "head" and None in (checked.best.test_top1, checked.last.test_top1):
            raise ValueError("it has no test_top1")
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(map(str, first["loc"]))
        problem = f"{where}: {first['msg']}" if where else first["msg"]
    except (OSError, ValueError, RecursionError) as error:  # ValueError: not JSON, or not UTF-8
        problem = " ".join(str(error).split())
    else:
        return result
    raise UserError(f"cannot read {path}: {problem}; delete it to have the run done again")
