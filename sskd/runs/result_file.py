"""result.json as reports and plans read it: numbers are numbers, or the file is named."""

import json
from pathlib import Path
from typing import Annotated, Any

from pydantic import AllowInfNan, BaseModel, ConfigDict, ValidationError

from sskd.errors import UserError

MayBeNan = Annotated[float, AllowInfNan(True)]  # the likeness of a student whose features are all equal


class _Strict(BaseModel):
    """Keys that the report does not read may be anything."""

    model_config = ConfigDict(strict=True, allow_inf_nan=False)


class _Epoch(_Strict):
    epoch: int
    test_top1: float | None = None
    test_top5: float | None = None
    test_loss: float | None = None
    test_head_top1: float | None = None
    test_images: int | None = None


class _Machine(_Strict):
    host: str | None = None
    device: str | None = None
    driver: str | None = None
    threads: int | None = None
    python: str | None = None
    torch: str | None = None
    torchvision: str | None = None
    version: str | None = None
    commit: str | None = None
    dirty: bool | None = None


class _Result(_Strict):
    """What the report needs of result.json, with its types."""

    best: _Epoch
    last: _Epoch
    chosen: _Epoch | None = None  # on held-out training images
    kl: MayBeNan | None = None
    cka: MayBeNan | None = None
    seconds: float
    images_per_second: float
    parameters: int
    train_images: int
    precision: str
    finished: str
    machine: _Machine = _Machine()


MACHINE_COLUMNS = tuple(_Machine.model_fields)


def read_result(path: Path, role: str) -> dict[str, Any]:
    """A result.json whose numbers are numbers. UserError says which file is damaged, where, and what to do."""
    try:
        result: dict[str, Any] = json.loads(path.read_bytes())
        checked = _Result.model_validate(result)
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
