"""What every test has: registries that are afterwards as they were."""

from collections.abc import Iterator
from typing import Any

import pytest

from benchmarks.base import BENCHMARKS
from sskd.data.datasets import DATASETS
from sskd.methods import METHODS
from sskd.networks import NETWORKS
from sskd.pretext import PRETEXTS

REGISTRIES: tuple[Any, ...] = (BENCHMARKS, DATASETS, METHODS, NETWORKS, PRETEXTS)


@pytest.fixture(autouse=True)
def _no_test_leaves_names_behind() -> Iterator[None]:
    before = [{name: registry[name] for name in registry} for registry in REGISTRIES]
    yield
    for registry, entries in zip(REGISTRIES, before, strict=True):
        registry._entries = entries
