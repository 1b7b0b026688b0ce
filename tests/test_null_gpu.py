"""The code for "cuda", run on a null GPU (perf/null.py): what no test on the CPU can see. Where a GPU's build of
PyTorch, or the null GPU, is not to be had, these are skipped."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from perf import null

ROOT = Path(__file__).parent.parent


@pytest.mark.slow
@pytest.mark.parametrize("case", ["whole_runs", "every_kind", "careless", "evaluation"])
def test_on_a_null_gpu(case: str) -> None:
    if not null.found():
        pytest.skip(f"no null GPU at {null.FOLDER}")
    if torch.version.cuda is None:
        pytest.skip("this PyTorch is built without CUDA")
    command = ["bash", str(null.FOLDER / "run.sh"), sys.executable]
    tried = subprocess.run([*command, "-c", "import null_gpu"], capture_output=True, text=True, check=False)
    if tried.returncode:
        pytest.skip(f"the null GPU cannot be built here: {tried.stderr.strip().splitlines()[-1:]}")
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    found = subprocess.run(
        [*command, "-m", "tests.null_gpu_case", case],
        cwd=ROOT,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert found.returncode == 0, found.stderr[-3000:]
