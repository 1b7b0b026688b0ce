"""A replayed epoch is compared with the submitted one bit for bit where that can be asked; else nothing is said."""

import math

import torch

from benchmarks.records.computing import differing, kind_of, must_be_equal, strange_tensors

MACHINE = {"device": "AMD EPYC, 2 cores", "cpu_capability": "AVX512", "torch": "2.14", "threads": 1}
RESULT = {"machine": MACHINE, "measured_with": {"execution": {"channels_last": True}}, "precision": "fp32"}


def test_bits_can_be_asked_for_on_the_same_kind_of_cpu_in_fp32_alone() -> None:
    kind = kind_of(RESULT)
    assert must_be_equal(kind, kind_of(RESULT | {"machine": MACHINE | {"device": "AMD EPYC, 64 cores"}}), on_cpu=True)
    assert not must_be_equal(kind, kind, on_cpu=False)
    for key, value in (("device", "Intel"), ("cpu_capability", "AVX2"), ("torch", "2.13"), ("threads", 2)):
        assert not must_be_equal(kind, kind_of(RESULT | {"machine": MACHINE | {key: value}}), on_cpu=True)
    for same in (RESULT | {"precision": "bf16"}, {}):  # what is not recorded is equal to nothing
        assert not must_be_equal(kind_of(same), kind_of(same), on_cpu=True)


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
