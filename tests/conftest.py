"""Fixtures: every test leaves registries and threads as they were; some tests request a null GPU."""

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from benchmarks.tables.benchmark import BENCHMARKS
from perf import null
from sskd.runs.plugins import REGISTRIES as OF_PLUGINS
from tests import small
from tests.cluster.holding import holds

__all__ = ["holds"]

REGISTRIES: tuple[Any, ...] = (BENCHMARKS, *OF_PLUGINS)


def _plugins() -> set[str]:
    return {name for name in sys.modules if name.startswith("plugin_")}


@pytest.fixture(autouse=True)
def _as_before() -> Iterator[None]:
    before = [{name: registry[name] for name in registry} for registry in REGISTRIES]
    threads = torch.get_num_threads()
    plugins = _plugins()  # a fixture that outlives the test may have loaded some: these stay, as their entries do
    yield
    torch.set_num_threads(threads)
    for module in _plugins() - plugins:
        del sys.modules[module]  # so that a plugin registers again where it is named again
    for registry, entries in zip(REGISTRIES, before, strict=True):
        registry._entries = entries


@pytest.fixture(scope="session")
def null_gpu() -> tuple[str, ...]:
    """The beginning of a command that runs on a null GPU (perf/null.py). Skips, and says why, where there is none."""
    if not null.found():
        pytest.skip(f"no null GPU at {null.FOLDER}")
    if torch.version.cuda is None:
        pytest.skip("this PyTorch is built without CUDA")
    command = ("bash", str(null.FOLDER / "run.sh"))
    tried = subprocess.run(
        [*command, sys.executable, "-c", "import null_gpu"], capture_output=True, text=True, check=False
    )
    if tried.returncode:
        pytest.skip(f"the null GPU cannot be built here: {tried.stderr.strip().splitlines()[-1:]}")
    return command


@pytest.fixture(scope="session")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Finished runs: a teacher, its head, and an SSKD student of it (tests/small.py). Tests link or copy them."""
    path = tmp_path_factory.mktemp("runs")
    small.train_all(small.spec(small.student("sskd", with_head=True)), path)
    return path
