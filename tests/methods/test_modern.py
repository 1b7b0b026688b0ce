"""Golden losses and gradients of the methods of 2021 to 2024 that compare predictions, through ``Method.forward``."""

from typing import Any

import pytest
import torch
from torch import Tensor

from sskd.config.recipe import Recipe
from sskd.data.batch import Batch
from sskd.methods import METHODS, Method, MethodContext
from sskd.networks import Features, FeatureShapes, Network
from sskd.runs.settings import method_settings
from tests.golden import BATCH, CLASSES, LOSSES, assert_golden, labels, logits

TARGET = labels(202, BATCH, CLASSES)
SHAPES = FeatureShapes("network", (), 4)


def build(name: str, classes: int = CLASSES, epochs: int = 240, **settings: Any) -> Method:
    network = Network()
    context = MethodContext(
        network, SHAPES, classes, torch.arange(50), network, SHAPES, recipe=Recipe(epochs=epochs, full_epochs=240)
    )
    return METHODS[name](method_settings(name, **settings), context)


def features(scores: Tensor) -> Features:
    pooled = scores.detach()[:, :4]
    return Features(scores, (), pooled, ())


def batch_of(wanted: Tensor, views: int = 1) -> Batch:
    images = torch.zeros(views * len(wanted), 3, 2, 2)
    return Batch(images, wanted, torch.arange(len(wanted)), None, torch.Generator())


def own(method: Method, student: Tensor, teacher: Tensor, wanted: Tensor) -> Tensor:
    """The method's own terms, weighted."""
    terms = method.loss_terms(features(student), features(teacher), batch_of(wanted)).losses
    return torch.stack([method.loss_weights[name] * loss for name, loss in terms.items()]).sum()


def total(method: Method, student: Tensor, teacher: Tensor, wanted: Tensor) -> Tensor:
    return method(features(student), features(teacher), batch_of(wanted))[0]


OWN: list[tuple[str, str, dict[str, Any]]] = [
    ("dkd", "dkd", {}),
    ("dkd_beta2", "dkd", {"nckd_weight": 2.0}),
    ("dkd_target_part", "dkd", {"nckd_weight": 0.0}),
    ("lskd_dkd", "dkd", {"standardise": True}),
    ("dist_t1", "dist", {"temperature": 1.0, "inter_weight": 1.0, "intra_weight": 1.0}),
    ("dist_t4", "dist", {"inter_weight": 1.0, "intra_weight": 1.0}),
    ("ttm_0.1", "ttm", {"weight": 1.0, "gamma": 0.1}),
    ("wttm_0.2", "wttm", {"weight": 1.0, "gamma": 0.2}),
    ("nkd_imagenet", "nkd", {"temperature": 1.0, "others_weight": 1.5}),
    ("nkd_cifar", "nkd", {}),
]


@pytest.mark.parametrize(("golden", "name", "settings"), OWN, ids=[case[0] for case in OWN])
def test_own_terms(golden: str, name: str, settings: dict[str, Any]) -> None:
    student = logits(200, gradient=True)
    assert_golden(golden, own(build(name, **settings), student, logits(201), TARGET), [student])


TOTALS: list[tuple[str, str, dict[str, Any], int]] = [
    ("dkd_total_epoch5", "dkd", {}, 5),
    ("lskd_kd_total", "kd", {"standardise": True}, 1),
    ("wsld_cifar_total", "wsld", {}, 1),
]


@pytest.mark.parametrize(("golden", "name", "settings", "epoch"), TOTALS, ids=[case[0] for case in TOTALS])
def test_objectives(golden: str, name: str, settings: dict[str, Any], epoch: int) -> None:
    """Uses the published settings, in ``epoch`` (from 1) of the published code."""
    student, method = logits(200, gradient=True), build(name, **settings)
    method.begin_epoch(epoch - 1)
    assert_golden(golden, total(method, student, logits(201), TARGET), [student])


def test_standardised_kd_alone() -> None:
    student = logits(200, gradient=True)
    method = build("kd", standardise=True)
    _, terms = method(features(student), features(logits(201)), batch_of(TARGET))
    assert_golden("lskd_kd", terms.losses["kd"], [student])


def test_wsld_on_imagenets_classes() -> None:
    student, method = logits(330, classes=1000, gradient=True), build("wsld", temperature=2.0, weight=2.5)
    teacher, wanted = logits(331, classes=1000), labels(332, BATCH, 1000)
    assert_golden("wsld_imagenet_total", total(method, student, teacher, wanted), [student])


@pytest.mark.parametrize(
    ("golden", "epoch", "settings"),
    [
        ("ctkd_epoch1", 1, {"weight": 1.0}),
        ("ctkd_epoch5", 5, {"weight": 1.0}),
        ("ctkd_epoch10", 10, {"weight": 1.0}),
        ("lskd_ctkd_epoch5", 5, {"weight": 1.0, "standardise": True}),
        ("ctkd_total_epoch5", 5, {}),
    ],
)
def test_ctkd(golden: str, epoch: int, settings: dict[str, Any]) -> None:
    """Computes in float64, because theta's gradient is a difference of nearly equal terms."""
    student, teacher = logits(200).double().requires_grad_(), logits(201).double()
    method: Any = build("ctkd", **settings).double()
    method.begin_epoch(epoch - 1)
    of = total if "total" in golden else own
    assert_golden(golden, of(method, student, teacher, TARGET), [student, method.temperature.theta])
    if "temperature" in LOSSES[golden]:
        assert method.temperature().item() == pytest.approx(LOSSES[golden]["temperature"], rel=1e-6)
        assert method.temperature.factor.item() == pytest.approx(LOSSES[golden]["gradient_factor"], rel=1e-12)


def test_ctkds_temperature_climbs() -> None:
    """An optimiser that goes down the loss makes theta, and with it the loss, larger."""
    method: Any = build("ctkd")
    method.begin_epoch(20)
    optimiser = torch.optim.SGD(method.parameters(), lr=1.0)
    student, teacher = logits(200), logits(201)
    losses, taus = [], []
    for _ in range(5):
        optimiser.zero_grad()
        loss = own(method, student, teacher, TARGET)
        loss.backward()
        optimiser.step()
        losses.append(loss.item())
        taus.append(method.temperature().item())
    assert losses == sorted(losses)
    assert len(set(taus)) == 5


def test_ctkd_on_dkd_is_dkd_at_its_temperature() -> None:
    student, teacher = logits(200), logits(201)
    host: Any = build("ctkd", host="dkd")
    assert host.settings.ce_weight == 1.0
    tau = host.temperature().item()
    plain = build("dkd", temperature=tau, warmup_epochs=0.0)
    torch.testing.assert_close(total(host, student, teacher, TARGET), total(plain, student, teacher, TARGET))


@pytest.mark.parametrize(("epochs", "epoch", "share"), [(240, 0, 1 / 20), (240, 19, 1), (240, 30, 1), (24, 0, 0.5)])
def test_warm_up_follows_the_schedule(epochs: int, epoch: int, share: float) -> None:
    """The warm-up has 20 of 240 epochs; in a shorter run of the same schedule it is scaled like the milestones."""
    student, teacher, method = logits(200), logits(201), build("dkd", epochs=epochs)
    method.begin_epoch(epoch)
    all_of_it = own(method, student, teacher, TARGET)
    _, terms = method(features(student), features(teacher), batch_of(TARGET))
    found = total(method, student, teacher, TARGET) - terms.losses["ce"]
    torch.testing.assert_close(found, share * all_of_it)
    assert "ramp" not in method.state_dict()  # an epoch's, not learned


def test_the_warm_up_is_of_a_methods_own_terms_alone() -> None:
    """KD that is added to a method has its whole weight from the first epoch on."""
    student, teacher, method = logits(200), logits(201), build("dkd", epochs=240, kd_weight=0.5)
    method.begin_epoch(0)
    found, terms = method(features(student), features(teacher), batch_of(TARGET))
    ramped = own(method, student, teacher, TARGET) / 20
    torch.testing.assert_close(found, terms.losses["ce"] + 0.5 * terms.losses["kd"] + ramped)


def two_views(weak: Tensor, strong: Tensor) -> Features:
    """Image j's weak view in row 2j, its strong one in row 2j + 1."""
    return features(torch.stack([weak, strong], dim=1).flatten(0, 1))


@pytest.mark.parametrize("golden", ["mlkd_ce", "mlkd_kd", "mlkd_cc", "mlkd_bc", "mlkd_total", "lskd_mlkd_total"])
def test_mlkd(golden: str) -> None:
    weak, strong = logits(200, gradient=True), logits(203, gradient=True)
    method = build("mlkd", standardise=golden.startswith("lskd"))
    wanted = batch_of(TARGET, views=2)
    whole, terms = method(two_views(weak, strong), two_views(logits(201), logits(204)), wanted)
    names = {"ce": ("ce", "ce_strong"), "kd": ("instance",), "cc": ("class",), "bc": ("batch",)}
    weights = {"ce": 0.1} | method.loss_weights
    part = golden.removeprefix("mlkd_")
    if part in names:
        whole = torch.stack([weights[name] * terms.losses[name] for name in names[part]]).sum()
    assert_golden(golden, whole, [weak, strong])
