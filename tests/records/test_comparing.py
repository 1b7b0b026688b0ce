"""A replayed epoch is compared with the submitted one bit for bit where that can be asked; else nothing is said."""

import math
from typing import Any

import torch

from benchmarks.records.comparing import compare, differing, distance, kind_of, must_be_equal
from sskd.runs.epoch_state import state_hash

RESULT = {
    "machine": {"device": "AMD EPYC, 2 cores", "cpu_capability": "AVX512", "torch": "2.14", "threads": 1},
    "measured_with": {"execution": {"channels_last": True, "fold_teacher": True, "compile": "off"}},
    "precision": "fp32",
}


def state(value: float) -> dict[str, Any]:
    return {"epoch": 1, "modules": {"weight": torch.full((10,), value), "steps": torch.tensor(3)}}


def test_bits_can_be_asked_for_on_the_same_kind_of_cpu_in_fp32_alone() -> None:
    kind = kind_of(RESULT)
    more_cores = RESULT | {"machine": RESULT["machine"] | {"device": "AMD EPYC, 64 cores"}}  # type: ignore[operator]
    assert must_be_equal(kind, kind_of(more_cores), on_cpu=True)
    assert not must_be_equal(kind, kind, on_cpu=False)
    for other in (
        kind._replace(device="Intel"),
        kind._replace(cpu_capability="AVX2"),
        kind._replace(torch="2.13"),
        kind._replace(execution="2 threads"),
    ):
        assert not must_be_equal(kind, other, on_cpu=True)
    assert not must_be_equal(*[kind._replace(precision="bf16")] * 2, on_cpu=True)
    assert not must_be_equal(*[kind_of({})] * 2, on_cpu=True)  # what is not recorded is equal to nothing


def test_the_distance_is_a_share_of_the_way() -> None:
    start, submitted = state(0.0)["modules"], state(1.0)["modules"]
    assert distance(submitted, state(1.0)["modules"], start) == 0
    assert math.isclose(distance(submitted, state(1.05)["modules"], start), 0.05, rel_tol=1e-5)
    assert distance(submitted, {"weight": torch.ones(9), "steps": torch.tensor(3)}, start) == math.inf
    assert distance(submitted, state(math.nan)["modules"], start) == math.inf
    assert distance(start, submitted, start) == math.inf  # an epoch that moved nothing


def test_other_bits_are_a_problem_on_the_same_kind_of_machine_alone() -> None:
    submitted, start = state(1.0), state(0.0)["modules"]
    committed = state_hash(submitted)
    assert compare(committed, submitted, state(1.0), start, exact=True).equal
    near, broken = state(1.05), state(math.nan)
    assert compare(committed, submitted, near, start, exact=False).problem == ""
    assert "bit for bit" in compare(committed, submitted, near, start, exact=True).problem
    assert "not finite" in compare(committed, submitted, broken, start, exact=False).problem


def test_numbers_of_an_epoch() -> None:
    replayed = {"test_top1": 50.0, "loss": 1.0, "seconds": 3.0, "stage": "main"}
    assert differing(replayed | {"seconds": 9.0}, replayed, exact=True) == []
    assert differing(replayed | {"loss": 1.01}, replayed, exact=True) == ["loss is 1.01, and 1.0 here"]
    assert differing(replayed | {"loss": 1.01, "test_top1": 50.5}, replayed, exact=False) == []
    assert differing(replayed | {"test_top1": 60.0}, replayed, exact=False) == ["test_top1 is 60.0, and 50.0 here"]
    assert differing({"loss": 1.0}, replayed, exact=False) == ["test_top1 is None, and 50.0 here"]
    assert differing({"cka": math.nan}, {"cka": math.nan}, exact=True) == []
