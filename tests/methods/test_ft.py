"""FT: golden values, and a paraphraser that its own stage trains and no other."""

import pytest
import torch

from sskd.methods import METHODS
from sskd.methods.ft import FT, Paraphraser, factor_loss, translator
from sskd.runs.settings import method_settings
from tests import golden
from tests.methods.pairs import a_batch, context, features_like, published_shapes


def ft(teacher: str = "resnet56", student: str = "resnet20", **changes: object) -> FT:
    torch.manual_seed(0)
    method = METHODS["ft"](method_settings("ft", **changes), context(teacher, student))
    assert isinstance(method, FT)
    return method


def test_golden() -> None:
    student = golden.tensor(12, 12, 64, 4, 4).requires_grad_()
    golden.assert_golden("ft", factor_loss(student, golden.tensor(22, 12, 64, 4, 4)), [student])


def test_layers_are_the_published_ones() -> None:
    shapes = [tuple(p.shape) for p in Paraphraser(64).parameters() if p.dim() == 4]
    encoder = [(64, 64, 3, 3), (32, 64, 3, 3), (32, 32, 3, 3)]
    decoder = [(32, 32, 3, 3), (32, 64, 3, 3), (64, 64, 3, 3)]  # transposed: (in, out, ...)
    assert shapes == encoder + decoder
    shapes = [tuple(p.shape) for p in translator(16, 32).parameters() if p.dim() == 4]
    assert shapes == [(16, 16, 3, 3), (32, 16, 3, 3), (32, 32, 3, 3)]


@pytest.mark.parametrize(
    ("teacher", "student", "rate"),
    [
        ("resnet56", "resnet20", 0.01),
        ("resnet32x4", "resnet8x4", 0.01),
        ("wrn_40_2", "wrn_16_2", 0.01),
        ("vgg13", "vgg8", None),
        ("resnet32x4", "ShuffleV1", None),
        ("vgg13", "ResNet50", None),  # not one of the families in the published code's list
    ],
)
def test_rate_of_the_paraphraser_follows_the_student(teacher: str, student: str, rate: float | None) -> None:
    with torch.device("meta"):
        (stage,) = ft(teacher, student).initial_stages()
    assert (stage.name, stage.epochs, stage.uses_student) == ("paraphraser", 30, False)
    assert stage.learning_rate == rate


def test_initial_stage_trains_the_paraphraser_only() -> None:
    method = ft()
    method.eval()
    (stage,) = method.initial_stages()
    for module in stage.trained:
        module.train()
    stage.loss(None, features_like(published_shapes("resnet56")), a_batch(torch.zeros(2, 3, 1, 1)))[
        "reconstruction"
    ].backward()
    reached = {name for name, p in method.named_parameters() if p.grad is not None}
    assert reached == {name for name, _ in method.named_parameters() if name.startswith("paraphraser.")}


def test_main_stage_leaves_the_paraphraser_as_it_is() -> None:
    """Not even weight decay and momentum touch it, also where its own stage left gradients."""
    method = ft()
    method.paraphraser.train()
    teacher_features, batch = features_like(published_shapes("resnet56"), 4), a_batch(torch.zeros(4, 3, 1, 1))
    optimizer = torch.optim.SGD(method.parameters(), lr=0.1, momentum=0.9, weight_decay=0.1)
    method.initial_stages()[0].loss(None, teacher_features, batch)["reconstruction"].backward()
    method.train()
    assert not method.paraphraser.training
    assert method.translator.training
    before = {name: value.clone() for name, value in method.state_dict().items()}
    for _ in range(2):
        total, terms = method(features_like(published_shapes("resnet20"), 4), teacher_features, batch)
        torch.testing.assert_close(total, terms.losses["ce"] + 200 * terms.losses["ft"])
        total.backward()
        optimizer.step()
    for name, value in method.state_dict().items():
        frozen = name.startswith("paraphraser.")
        assert torch.equal(value, before[name]) == frozen, name


def test_only_the_encoder_is_used_in_the_main_stage() -> None:
    method = ft().train()
    student_features, teacher_features = (
        features_like(published_shapes("resnet20")),
        features_like(published_shapes("resnet56")),
    )
    for parameter in method.paraphraser.decoder.parameters():
        parameter.fill_(torch.nan)
    loss = method.loss_terms(student_features, teacher_features, a_batch(torch.zeros(2, 3, 1, 1))).losses["ft"]
    assert loss.isfinite()
