"""Tests the results and weights of runs with the newer methods."""

from pathlib import Path

import pytest
from safetensors.torch import load_file

from sskd.training.setup import prepare
from sskd.training.tasks import build_task
from tests import small


@pytest.mark.parametrize("method", ["simkd", "catkd"])
def test_saved_weights_are_those_that_were_measured(method: str, tmp_path: Path) -> None:
    """Built anew from the spec, with the saved weights: the same accuracy and as many parameters."""
    wanted = small.spec(small.student(method))
    result = small.train_all(wanted, tmp_path)
    job = build_task(prepare(wanted, tmp_path, small.EXECUTION))
    assert sum(p.numel() for p in job.output.parameters()) == result["parameters"]
    job.output.load_state_dict(load_file(tmp_path / wanted.id / "last.safetensors"))
    assert job.evaluate()["top1"] == result["last"]["test_top1"]
