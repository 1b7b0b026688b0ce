"""KD and SSKD against the golden values: losses, gradients, ranks, and the whole objective."""

import pytest
import torch
from torch import Tensor

from sskd.data.batch import Batch
from sskd.data.views import Rotations, SingleView
from sskd.losses import kd_divergence
from sskd.methods import METHODS, Method, MethodContext
from sskd.networks import Features, FeatureShapes, build_network
from sskd.pretext import PRETEXTS, PretextContext
from sskd.pretext.base import TransferConfig
from sskd.pretext.contrastive import Settings as ContrastiveSettings
from sskd.pretext.contrastive import positive_index, similarity
from sskd.pretext.selection import keep_mask, ranks, transformed
from sskd.runs.settings import method_settings
from tests import golden

IMAGES, VIEWS = 8, 4


@pytest.fixture
def student() -> tuple[Tensor, Tensor]:
    """Logits and head outputs of the student, with gradient."""
    return (3 * golden.tensor(60, 32, 100)).requires_grad_(), golden.tensor(62, 32, 64).requires_grad_()


@pytest.fixture
def teacher() -> tuple[Tensor, Tensor]:
    logits, output = 3 * golden.tensor(61, 32, 100), golden.tensor(63, 32, 64)
    labels = golden.labels(64, IMAGES, 100)
    for j in range(IMAGES):
        for k in (1, 2):
            output[4 * j + k] = (0.9 if j % 2 else 0.3) * output[4 * j] + 0.8 * output[4 * j + k]
            logits[4 * j + k, labels[j]] += 4
    return logits, output


def batch() -> Batch:
    images = torch.zeros(IMAGES * VIEWS, 3, 1, 1)
    return Batch(images, golden.labels(64, IMAGES, 100), torch.arange(IMAGES), None, torch.Generator())


def contrastive(temperature: float = 1.0) -> "torch.nn.Module":
    settings = ContrastiveSettings(name="contrastive", temperature=temperature)
    return PRETEXTS["contrastive"](settings, PretextContext(64, IMAGES))


def test_kd_golden() -> None:
    student = (3 * golden.tensor(1, 12, 100)).requires_grad_()
    loss = kd_divergence(student, 3 * golden.tensor(2, 12, 100), 4.0)
    golden.assert_golden("kd_T4", loss, [student])


@pytest.mark.parametrize("keep", [1.0, 0.75, 0.5, 0.0])
def test_transfer_golden(keep: float, student: tuple[Tensor, Tensor], teacher: tuple[Tensor, Tensor]) -> None:
    head = contrastive()
    transfer = head.transfer(student[1], teacher[1], batch(), TransferConfig(0.5, keep, "kl"))
    golden.assert_golden(f"sskd_ss_keep{keep}", transfer.loss, [student[1]])
    scores = similarity(teacher[1], VIEWS)
    assert ranks(scores, positive_index(scores)).tolist() == golden.LOSSES[f"sskd_ss_keep{keep}"]["rank"]

    student_logits, teacher_logits = transformed(student[0], VIEWS), transformed(teacher[0], VIEWS)
    rank = ranks(teacher_logits, batch().labels.repeat_interleave(3))
    assert rank.tolist() == golden.LOSSES[f"sskd_t_keep{keep}"]["rank"]
    loss = kd_divergence(student_logits, teacher_logits, 4.0, keep_mask(rank, keep))
    golden.assert_golden(f"sskd_t_keep{keep}", loss, [student[0]])


@pytest.mark.parametrize("temperature", [1.0, 0.5])
def test_teacher_head_golden(
    temperature: float, student: tuple[Tensor, Tensor], teacher: tuple[Tensor, Tensor]
) -> None:
    loss, _ = contrastive(temperature).loss(student[1], batch())
    golden.assert_golden(f"sskd_head_ce_tau{temperature:g}", loss, [student[1]])
    _, right = contrastive(temperature).loss(teacher[1], batch())
    assert right.item() == pytest.approx(17 / 24)  # the golden ranks have seventeen zeros


def sskd(**settings: float) -> Method:
    head = contrastive()
    head.layers = torch.nn.Identity()
    context = MethodContext(
        student=build_network("resnet8", 100),
        student_shapes=FeatureShapes("resnet8", (), 64),
        num_classes=100,
        labels=torch.zeros(IMAGES, dtype=torch.int64),
        head=head,
    )
    method = METHODS["sskd"](method_settings("sskd", **settings), context)
    if hasattr(method, "head"):
        method.head.layers = torch.nn.Identity()
    return method


def test_whole_objective_golden(student: tuple[Tensor, Tensor], teacher: tuple[Tensor, Tensor]) -> None:
    """The published defaults (configs/methods.yaml) through the method as the training loop calls it."""
    total, terms = sskd()(Features(student[0], (), student[1], ()), Features(teacher[0], (), teacher[1], ()), batch())
    golden.assert_golden("sskd_total", total, list(student))
    assert set(terms.losses) == {"ce", "kd", "t", "ss"}
    assert terms.logged["head_accuracy"].item() == pytest.approx(17 / 24)
    assert terms.logged["ss_kept"].item() == pytest.approx((17 + 5) / 24)  # floor(0.75 * 7) = 5 of the wrong ones
    assert terms.logged["t_kept"].item() == 1


def test_terms_of_weight_zero_are_not_computed(student: tuple[Tensor, Tensor], teacher: tuple[Tensor, Tensor]) -> None:
    features = Features(student[0], (), student[1], ()), Features(teacher[0], (), teacher[1], ())
    only_t, only_ss, neither = sskd(ss_weight=0.0), sskd(t_weight=0.0), sskd(ss_weight=0.0, t_weight=0.0)
    assert not list(only_t.parameters())
    assert set(only_t(*features, batch())[1].losses) == {"ce", "kd", "t"}
    assert set(only_ss(*features, batch())[1].losses) == {"ce", "kd", "ss"}
    assert set(neither(*features, batch())[1].losses) == {"ce", "kd"}
    assert isinstance(only_t.view_transform(), Rotations)
    assert isinstance(neither.view_transform(), SingleView)


def test_cross_entropy_instead_of_kl_changes_values_and_not_gradients(
    student: tuple[Tensor, Tensor], teacher: tuple[Tensor, Tensor]
) -> None:
    features = Features(student[0], (), student[1], ()), Features(teacher[0], (), teacher[1], ())
    totals = [sskd(divergence=kind)(*features, batch())[0] for kind in ("kl", "cross_entropy")]
    assert totals[1] > totals[0] + 1
    for found, expected in zip(*(torch.autograd.grad(t, student, retain_graph=True) for t in totals), strict=True):
        torch.testing.assert_close(found, expected)
