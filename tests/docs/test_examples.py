"""The examples of loops of one's own, as they stand, each in a process and a folder of its own."""

import importlib.util
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

ROOT = Path(__file__).parents[2]
EXAMPLES = ROOT / "docs" / "examples"


def needs(package: str) -> pytest.MarkDecorator:
    return pytest.mark.skipif(not importlib.util.find_spec(package), reason=f"{package} is not installed")


def image_folder(path: Path) -> Path:
    """Two classes of twenty images: dark ones and bright ones."""
    draws = np.random.default_rng(0)
    for name, low in (("dark", 0), ("bright", 128)):
        (path / name).mkdir(parents=True)
        for number in range(20):
            pixels = draws.integers(low, low + 128, (40, 48, 3), dtype=np.uint8)
            Image.fromarray(pixels).save(path / name / f"{number}.png")
    return path


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "method", "said"),
    [
        pytest.param("lightning_module", "at", "'at': ", marks=needs("lightning")),
        pytest.param("accelerate_loop", "crd", "epoch 2: loss ", marks=needs("accelerate")),
        pytest.param("image_folder", "", "cosine: ", marks=needs("timm")),
    ],
)
def test_it_runs(name: str, method: str, said: str, tmp_path: Path) -> None:
    argument = method or str(image_folder(tmp_path / "images"))
    done = subprocess.run(
        [sys.executable, str(EXAMPLES / f"{name}.py"), argument],
        capture_output=True,
        text=True,
        cwd=tmp_path,
        env=os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"},
        timeout=500,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert said in done.stdout.splitlines()[-1]
    assert list(tmp_path.glob("*.pt"))
