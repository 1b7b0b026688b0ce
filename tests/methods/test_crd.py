"""CRD beside its golden value: the draw of contrasts, the banks, and what a resumed run finds again."""

import math
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.nn import functional as F

from sskd.data.batch import Batch
from sskd.errors import UserError
from sskd.methods.memory_bank import Banks
from sskd.networks import Features, FeatureShapes
from tests import golden
from tests.methods.shapes import build

IMAGES, CLASSES = 40, 4


def unit(k: int, *shape: int) -> Tensor:
    return F.normalize(golden.tensor(k, *shape), dim=1)


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def crd() -> Any:
    return build("crd", FeatureShapes("narrow", (), 64), FeatureShapes("wide", (), 128), CLASSES, negatives=12)


def step(method: Any, seed: int) -> Tensor:
    """One step's term; the banks have not taken it in yet."""
    indices = torch.randperm(IMAGES, generator=generator(seed))[:8]
    batch = Batch(torch.zeros(8, 3, 1, 1), indices % CLASSES, indices, None, generator(seed + 100))
    student, teacher = golden.tensor(200 + seed, 8, 64), golden.tensor(300 + seed, 8, 128)
    logits = torch.zeros(8, CLASSES)
    return method.loss_terms(Features(logits, (), student, ()), Features(logits, (), teacher, ()), batch).losses["crd"]


@settings(deadline=None, max_examples=60)
@given(
    labels=st.lists(st.integers(0, 4), min_size=4, max_size=40).filter(lambda x: len(set(x)) > 1),
    negatives=st.integers(1, 45),
    positive=st.sampled_from(["exact", "relaxed"]),
    seed=st.integers(0, 1000),
)
def test_draw_holds_for_any_labels(labels: list[int], negatives: int, positive: str, seed: int) -> None:
    """Own class never, nothing twice where there is enough, positives of the own: any split, any K."""
    classes = torch.tensor(labels)
    indices = torch.randperm(len(labels), generator=generator(seed))
    banks = Banks(classes, 6, 4)  # class 5 has no image
    drawn = banks.draw(indices, negatives, positive, generator(seed))  # type: ignore[arg-type]
    assert drawn.shape == (len(labels), 1 + negatives)
    assert drawn.dtype == torch.int64
    own = classes[indices]
    assert (classes[drawn[:, 0]] == own).all()
    if positive == "exact":
        assert (drawn[:, 0] == indices).all()
    assert (classes[drawn[:, 1:]] != own[:, None]).all()
    for row, label in zip(drawn[:, 1:].tolist(), own.tolist(), strict=True):
        if negatives <= sum(other != label for other in labels):
            assert len(set(row)) == negatives


def chi_square(counts: Tensor, expected: float) -> float:
    return ((counts - expected).square() / expected).sum().item()


@pytest.mark.parametrize("negatives", [10, 29, 60], ids=["few", "nearly all", "with replacement"])
def test_negatives_are_uniform(negatives: int) -> None:
    banks = Banks(torch.tensor([0] * 10 + [1] * 20 + [2] * 10), 3, 4)
    rows = 3000
    drawn = banks.draw(torch.zeros(rows, dtype=torch.long), negatives, "exact", generator())[:, 1:]
    counts = drawn.flatten().bincount(minlength=40)
    assert counts[:10].sum() == 0
    expected = rows * negatives / 30
    # without replacement counts vary less, by 1 - K / M; of 29 degrees of freedom one in 1,000 passes 58.3
    spread = 1 - negatives / 30 if negatives <= 30 else 1.0
    statistic = chi_square(counts[10:].double(), expected) / spread
    assert 8 < statistic < 58.3


def test_rows_are_drawn_independently() -> None:
    """Two rows of one draw share as many negatives as two independent sets would: K^2 / M."""
    banks = Banks(torch.arange(60) % 2, 2, 4)
    shared = []
    for seed in range(300):
        drawn = banks.draw(torch.tensor([0, 0]), 10, "exact", generator(seed))[:, 1:].tolist()
        shared.append(len(set(drawn[0]) & set(drawn[1])))
    assert np.mean(shared) == pytest.approx(10 * 10 / 30, abs=0.3)  # standard error 0.07


def test_relaxed_positives_are_uniform_in_the_class() -> None:
    banks = Banks(torch.arange(30) % 3, 3, 4)
    positives = banks.draw(torch.full((5000,), 7), 1, "relaxed", generator())[:, 0]
    counts = positives.bincount(minlength=30)
    assert counts[torch.arange(30) % 3 != 1].sum() == 0
    assert chi_square(counts[1::3].double(), 500) < 27.9  # 9 degrees of freedom: passed by one in 1,000


def test_chunked_draw_is_the_same_kind_of_draw(monkeypatch: pytest.MonkeyPatch) -> None:
    """Rows are drawn in chunks if the keys of all rows would take too much memory."""
    monkeypatch.setattr("sskd.methods.memory_bank.MAX_KEYS", 100)
    labels = torch.arange(40) % 4
    drawn = Banks(labels, 4, 4).draw(torch.arange(9), 20, "exact", generator())
    assert drawn.shape == (9, 21)
    assert (labels[drawn[:, 1:]] != labels[:9, None]).all()
    assert all(len(set(row)) == 21 for row in drawn.tolist())


def test_the_generator_alone_decides() -> None:
    banks, indices = Banks(torch.arange(40) % 4, 4, 4), torch.arange(16)
    for negatives, positive in ((12, "exact"), (12, "relaxed"), (35, "relaxed")):
        drawn = []
        for seed in (1, 1, 2):
            torch.manual_seed(torch.seed())  # the global state has no part in it
            drawn.append(banks.draw(indices, negatives, positive, generator(seed)))  # type: ignore[arg-type]
        assert torch.equal(drawn[0], drawn[1])
        assert not torch.equal(drawn[0], drawn[2])


def test_banks_begin_uniform_within_the_published_bound() -> None:
    bank = Banks(torch.arange(100) % 2, 2, 128).student
    bound = 1 / math.sqrt(128 / 3)
    assert bound * 0.99 < bank.abs().max() <= bound
    assert bank.mean().abs() < 0.01
    with pytest.raises(UserError, match="two classes"):
        Banks(torch.zeros(5, dtype=torch.long), 3, 4)


def test_banks_take_in_the_step_after_it() -> None:
    method = crd()
    before = {side: getattr(method.banks, side).clone() for side in ("student", "teacher")}
    step(method, seed=1).backward()  # the backward pass still finds the banks as the scores saw them
    assert torch.equal(method.banks.student, before["student"])
    method.after_step()
    indices = torch.randperm(IMAGES, generator=generator(1))[:8]
    vectors = {"student": golden.tensor(201, 8, 64), "teacher": golden.tensor(301, 8, 128)}
    for side, vector in vectors.items():
        embedding = F.normalize(getattr(method, f"embed_{side}")(vector), dim=1)
        mixed = 0.5 * before[side][indices] + 0.5 * embedding
        expected = before[side].clone()
        expected[indices] = mixed / mixed.norm(dim=1, keepdim=True)
        torch.testing.assert_close(getattr(method.banks, side), expected)
    after = method.banks.student.clone()
    method.after_step()  # nothing new to take in
    assert torch.equal(method.banks.student, after)


def test_a_resumed_method_goes_on_alike() -> None:
    """Z comes from the first batch and stays."""
    whole = crd()
    assert (whole.z == -1).all()
    step(whole, 1)
    first = whole.z.clone()
    assert (first > 0).all()
    whole.after_step()
    state = {name: value.clone() for name, value in whole.state_dict().items()}
    assert {"z", "banks.student", "banks.teacher"} <= set(state)
    assert "banks.labels" not in state  # the split's, not the run's
    resumed = crd()
    for tensor in resumed.state_dict().values():
        tensor.zero_()
    resumed.load_state_dict(state)
    assert torch.equal(step(whole, 2), step(resumed, 2))
    assert torch.equal(whole.z, first)


def test_both_embeddings_are_trained_and_nothing_else() -> None:
    method = crd()
    step(method, 1).backward()
    trained = {name for name, parameter in method.named_parameters() if parameter.grad is not None}
    assert trained == {f"embed_{side}.{kind}" for side in ("student", "teacher") for kind in ("weight", "bias")}
    assert method.embed_teacher.weight.grad.any()
