"""A replayed epoch is compared with the submitted one bit for bit where that can be asked; else nothing is said."""

import math
from pathlib import Path

import pytest
import torch

from benchmarks.records import computing
from benchmarks.records.computing import differing, strange_tensors
from benchmarks.records.record import Manifest, Submission
from tests import small

MACHINE = {"device": "AMD EPYC, 2 cores", "cpu_capability": "AVX512", "torch": "2.14", "threads": 1}


@pytest.mark.parametrize(
    ("change", "precision", "device", "exact"),
    [
        ({"device": "AMD EPYC, 64 cores"}, "fp32", "cpu", True),
        ({}, "fp32", "cuda", False),
        ({}, "bf16", "cpu", False),
        ({"device": "Intel, 2 cores"}, "fp32", "cpu", False),
        ({"cpu_capability": "AVX2"}, "fp32", "cpu", False),
        ({"torch": "2.13"}, "fp32", "cpu", False),
        ({"threads": 2}, "fp32", "cpu", False),
    ],
)
def test_bits_can_be_asked_for_on_the_same_kind_of_cpu_in_fp32_alone(
    change: dict[str, object], precision: str, device: str, exact: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(computing, "provenance", lambda device: MACHINE)
    monkeypatch.setattr(computing, "device_of", lambda execution: torch.device(device))
    spec = small.spec(small.student(recipe=small.RECIPE | {"precision": precision}))
    result = {"machine": MACHINE | change, "precision": precision}
    found = Submission(Path(), Manifest.model_construct(), spec, [], result)
    assert computing._exact(found, small.EXECUTION.model_copy(update={"threads": 1})) is exact


def test_tensors_that_no_rounding_explains() -> None:
    state = {"weight": torch.ones(10), "steps": torch.tensor(3)}
    assert strange_tensors(state, state | {"weight": torch.zeros(10)}) == ""
    assert strange_tensors(state, state | {"weight": torch.ones(9)})
    assert strange_tensors(state, {"weight": torch.ones(10)})
    assert strange_tensors(state | {"weight": torch.full((10,), math.nan)}, state)


def test_numbers_of_an_epoch() -> None:
    replayed = {"test_top1": 50.0, "loss": 1.0, "seconds": 3.0, "stage": "main"}
    assert differing(replayed | {"seconds": 9.0}, replayed, exact=True) == []
    assert differing(replayed | {"loss": 1.01}, replayed, exact=True) == ["loss is 1.01, but 1.0 here"]
    assert differing(replayed | {"loss": 1.01, "test_top1": 50.5}, replayed, exact=False) == []
    assert differing(replayed | {"test_top1": 60.0}, replayed, exact=False) == ["test_top1 is 60.0, but 50.0 here"]
    assert differing({"loss": 1.0}, replayed, exact=False) == ["test_top1 is None, but 50.0 here"]
    assert differing({"cka": math.nan}, {"cka": math.nan}, exact=True) == []
