"""What every test has: registries and threads that are afterwards as they were."""

import sys
from collections.abc import Iterator
from typing import Any

import pytest
import torch

from benchmarks.tables.benchmark import BENCHMARKS
from sskd.runs.plugins import REGISTRIES as OF_PLUGINS

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
