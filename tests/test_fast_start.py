"""Help, version and answers to bad options come at once: nothing is imported that takes seconds."""

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
HEAVY = {"torch", "torchvision", "pandas", "matplotlib", "scipy", "seaborn", "sklearn", "submitit", "tensorboard"}


def imported(*command: str) -> tuple[set[str], "subprocess.CompletedProcess[str]"]:
    done = subprocess.run(
        [sys.executable, "-X", "importtime", *command], capture_output=True, text=True, timeout=120, cwd=ROOT
    )
    return {line.rpartition("|")[2].strip() for line in done.stderr.splitlines() if "|" in line}, done


@pytest.mark.parametrize(
    ("command", "status", "words"),
    [
        (["run_all.py", "--help"], 0, "decide"),
        (["run_all.py", "run", "--help"], 0, "--retry-failed"),
        (["run_all.py", "--dry-run"], 2, "run_all.py plan"),
        (["run_all.py", "--version"], 0, "sskd 0."),
        (["run_all.py", "list", "profiles"], 0, "smoke"),
        (["run_all.py", "list", "nothing"], 2, "invalid choice: 'nothing'"),
        (["run_all.py", "--no-such-option"], 2, "--no-such-option"),
        (["-m", "sskd", "--help"], 0, "evaluate"),
        (["-m", "sskd", "--version"], 0, "sskd 0."),
        (["-m", "sskd", "evaluate"], 2, "--network"),
        (["-m", "sskd", "train", "--help"], 0, "--runs"),
    ],
)
def test_nothing_heavy_is_imported(command: list[str], status: int, words: str) -> None:
    modules, done = imported(*command)
    assert done.returncode == status
    assert words in done.stdout + done.stderr
    assert "argparse" in modules  # the list of imports was read
    assert not modules & HEAVY
