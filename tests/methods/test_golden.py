"""Every golden entry of a method: loss, gradients and outputs, in both precisions and both memory layouts."""

import re

import pytest
import torch
from torch import nn

from sskd.methods.crld import is_confident
from sskd.methods.dot import TwoMomenta
from sskd.methods.wkdf import falling
from tests.golden import IN_FP32, LOSSES, assert_golden, assert_outputs, assert_summary
from tests.methods import golden_logits, golden_maps, golden_networks
from tests.methods.given import CASES, Given

assert golden_logits
assert golden_maps
assert golden_networks
PRECISIONS = {"fp32": torch.float32, "fp64": torch.float64}
LOOSE = ("ctkd", "lskd_ctkd")  # theta's gradient is a difference of nearly equal terms
ENTRIES = [
    pytest.param(entry, dtype, id=f"{entry}-{precision}")
    for precision, dtype in PRECISIONS.items()
    for entry in CASES
    # batch norms over four pixels magnify rounding
    if not (entry.startswith("hsakd_branches") and dtype == torch.float32)
]
NOT_LOSSES = {"dot", "dot_imagenet", "dot_delta0", "crld_kept", "wkd_weight"}  # tests below
OF_IMAGES = ("wkdl_published", "kdpp_published")  # statistics of published teachers of CIFAR-100, for comparison


def tolerance(entry: str, dtype: torch.dtype) -> float:
    if dtype == torch.float64:
        return 1e-5 if entry in IN_FP32 else 1e-10
    return 5e-2 if entry.startswith(LOOSE) else 1e-5


@pytest.mark.parametrize(("entry", "dtype"), ENTRIES)
def test_golden(entry: str, dtype: torch.dtype) -> None:
    """Float64 has maps in channels_last."""
    layout = torch.channels_last if dtype == torch.float64 else torch.contiguous_format
    case, relative = CASES[entry](Given(dtype, layout)), tolerance(entry, dtype)
    if case.loss is None:
        assert_outputs(entry, case.outputs, relative)
    else:
        assert_golden(entry, case.loss, case.inputs, case.parameters, case.outputs, relative)


def test_every_entry_has_a_case() -> None:
    assert {name for name in LOSSES if not name.startswith(OF_IMAGES)} == CASES.keys() | NOT_LOSSES


@pytest.mark.parametrize("dtype", PRECISIONS.values(), ids=PRECISIONS)
@pytest.mark.parametrize(
    ("entry", "difference", "rate", "decay"),
    [("dot", 0.075, 0.05, 5e-4), ("dot_imagenet", 0.09, 0.2, 1e-4), ("dot_delta0", 0.0, 0.05, 5e-4)],
)
def test_dots_steps(entry: str, difference: float, rate: float, decay: float, dtype: torch.dtype) -> None:
    """Weight 1 has no gradient of the distillation, weight 2 none of the task. With no difference the steps are
    SGD's."""
    shapes, given = ((3, 4), (5,), (6,)), Given(dtype)
    weights, plain = ([nn.Parameter(given.t(700 + i, *shape)) for i, shape in enumerate(shapes)] for _ in range(2))
    optimizer = TwoMomenta(weights, rate, 0.9, difference, decay)
    sgd = torch.optim.SGD(plain, rate, momentum=0.9, weight_decay=decay)
    optimizer.by_rest = {weights[0], weights[2]}
    for number, wanted in enumerate(LOSSES[entry]["steps"]):
        if number == 3:
            optimizer.param_groups[0]["lr"] = sgd.param_groups[0]["lr"] = rate / 10
        rest, task = ([given.t(k + 10 * number + i, *shape) for i, shape in enumerate(shapes)] for k in (710, 715))
        optimizer.task = {weights[0]: task[0], weights[1]: task[1]}
        for weight, same, gradient in zip(weights, plain, (task[0] + rest[0], task[1], rest[2]), strict=True):
            weight.grad, same.grad = gradient.clone(), gradient.clone()
        optimizer.step()
        sgd.step()
        for kind in ("task", "distillation"):
            found = [optimizer.state[weight].get(kind) for weight in weights]
            for value, summary in zip(found, wanted[kind], strict=True):
                assert (value is None) == (summary is None)
                if value is not None:
                    assert_summary(value, summary, tolerance(entry, dtype))
        for weight, summary in zip(weights, wanted["parameters"], strict=True):
            assert_summary(weight.detach(), summary, tolerance(entry, dtype))
        if not difference:
            torch.testing.assert_close(weights[:2], plain[:2])


def test_crld_keeps_what_the_teacher_is_sure_of() -> None:
    given = Given(torch.float32).predictions()
    teacher, strong = is_confident(given.teacher, 0.9), is_confident(given.strong_teacher, 0.2)
    assert {"weak": teacher.tolist(), "strong": strong.tolist()} == LOSSES["crld_kept"]


@pytest.mark.parametrize(("when", "factor"), LOSSES["wkd_weight"].items())
def test_wkds_weight_falls(when: str, factor: float) -> None:
    start, epochs, epoch = map(float, re.findall(r"\d+", when))
    assert falling(epoch, start, epochs) == pytest.approx(factor, rel=1e-12, abs=1e-15)
