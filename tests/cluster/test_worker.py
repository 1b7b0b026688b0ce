"""What a worker leaves when it cannot finish: the kind of its failure decides about another start."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from submitit.core.utils import UncompletedJobError

from benchmarks.dispatch.retries import retry
from benchmarks.dispatch.worker import _requeue, attempt
from sskd.errors import UserError
from sskd.runs.run_folder import RunFolder
from tests import small

SPEC = small.spec(small.teacher())
RETRIES = {"exception": 1, "out_of_memory": 1, "lost": 3, "timeout": 5}


def failing(error: Exception) -> Any:
    def action() -> None:
        raise error

    return action


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        (UserError("no such file"), "input"),
        (torch.OutOfMemoryError("CUDA out of memory"), "out_of_memory"),
        (ValueError("a fault of ours"), "exception"),
    ],
)
def test_the_kind_of_a_failure(error: Exception, kind: str, tmp_path: Path) -> None:
    RunFolder(tmp_path, SPEC).create()
    failure = attempt(SPEC, tmp_path, failing(error))
    assert failure is not None
    assert failure.input_is_bad == (kind == "input")
    failed = json.loads((tmp_path / SPEC.id / "failed.json").read_text())
    assert failed["kind"] == kind
    assert str(error) in failed["message"]
    assert any(str(error) in line for line in failed["last_lines"])


def test_too_many_time_limits_are_the_end(tmp_path: Path) -> None:
    folder = RunFolder(tmp_path / "runs", SPEC)
    folder.create()
    with pytest.raises(SystemExit) as end:
        _requeue(folder, failing(UncompletedJobError("timed-out too many times")))
    assert end.value.code == 1
    assert retry(tmp_path / "runs", SPEC.id, RETRIES, "") == ""
    assert "timed-out too many times" in json.loads(folder.failure.read_text())["message"]
