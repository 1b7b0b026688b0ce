"""Help, version and answers to bad options come at once: nothing is imported that takes seconds."""

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
HEAVY = {"torch", "torchvision", "pandas", "matplotlib", "scipy", "seaborn", "sklearn", "submitit", "tensorboard"}


CODE = """
import contextlib, io, sys
from {module} import main
for words in {commands}:
    with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
        with contextlib.suppress(SystemExit):
            main(words.split())
print(*sys.modules)
"""


@pytest.mark.parametrize(
    ("module", "commands"),
    [
        (
            "benchmarks.commands.main",
            ["--help", "run --help", "--version", "list profiles", "list nothing", "--no-such-option"],
        ),
        ("sskd.__main__", ["--help", "--version", "evaluate", "train --help"]),
    ],
)
def test_nothing_heavy_is_imported(module: str, commands: list[str]) -> None:
    code = CODE.format(module=module, commands=commands)
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT)
    modules = set(done.stdout.split())
    assert "argparse" in modules
    assert not modules & HEAVY
