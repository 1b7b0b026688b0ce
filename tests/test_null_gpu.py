"""The code for "cuda", run on a null GPU (perf/null.py): what no test on the CPU can see. Where a GPU's build of
PyTorch, or the null GPU, is not to be had, these are skipped."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent


def run(*command: str) -> str:
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    return done.stdout


@pytest.mark.slow
@pytest.mark.parametrize("case", ["whole_runs", "every_kind", "careless", "evaluation"])
def test_on_a_null_gpu(case: str, null_gpu: tuple[str, ...]) -> None:
    run(*null_gpu, sys.executable, "-m", "tests.null_gpu_case", case)


@pytest.mark.slow
def test_the_table_s_command(null_gpu: tuple[str, ...]) -> None:
    counted = run(sys.executable, "-m", "perf.null_gpu_table", "fitnet")
    assert re.search(r"^fitnet +bf16  syncs 0  launches +\d+", counted, re.MULTILINE), counted
