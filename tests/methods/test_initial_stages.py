"""The methods with a stage before the main training: its weight, its rate, and what the main stage leaves alone. (What
it trains: test_published_pairs.)"""

import pytest
import torch

from sskd.methods.ab import activation_boundary_loss
from sskd.methods.ft import Paraphraser, translator
from tests.methods.given import batch_like
from tests.methods.shapes import build, features_like, published_shapes

BATCH = batch_like(torch.arange(4))
RESNET20, RESNET56 = published_shapes("resnet20"), published_shapes("resnet56")


@pytest.mark.parametrize("name", ["ab", "fsp"])
def test_its_weight_is_that_of_the_stage_and_the_main_stage_has_no_term(name: str) -> None:
    sides = features_like(RESNET20), features_like(RESNET56)
    once, thrice = (build(name, RESNET20, RESNET56, weight=weight) for weight in (1.0, 3.0))
    (stage,), (heavier,) = once.initial_stages(), thrice.initial_stages()
    assert (stage.name, stage.epochs, stage.learning_rate, stage.uses_student) == ("initial", 30, None, True)
    torch.testing.assert_close(heavier.loss(*sides, BATCH)[name], 3 * stage.loss(*sides, BATCH)[name])
    assert set(thrice(*sides, BATCH)[1].losses) == {"ce"}


def test_abs_loss_counts_what_is_not_past_the_margin() -> None:
    student = torch.tensor([[2.0, 0.5, -2.0, 0.5]])
    teacher = torch.tensor([[1.0, 1.0, -1.0, 0.0]])  # zero counts as inactive
    loss = activation_boundary_loss([student], [teacher])
    assert loss.item() == pytest.approx((0.5**2 + 1.5**2) * 3 / 1000)


def test_fts_layers_are_the_published_ones() -> None:
    encoder, decoder = [(64, 64), (32, 64), (32, 32)], [(32, 32), (32, 64), (64, 64)]  # transposed: (in, out)
    for made, wanted in ((Paraphraser(64), encoder + decoder), (translator(16, 32), [(16, 16), (32, 16), (32, 32)])):
        assert [tuple(p.shape[:2]) for p in made.parameters() if p.dim() == 4] == wanted


@pytest.mark.parametrize(
    ("student", "rate"),
    [
        ("resnet20", 0.01),
        ("resnet8x4", 0.01),
        ("wrn_16_2", 0.01),
        ("vgg8", None),
        ("ShuffleV1", None),
        ("ResNet50", None),  # not one of the families in the published code's list
    ],
)
def test_rate_of_fts_paraphraser_follows_the_student(student: str, rate: float | None) -> None:
    with torch.device("meta"):
        (stage,) = build("ft", published_shapes(student), RESNET56).initial_stages()
    assert (stage.name, stage.epochs, stage.learning_rate, stage.uses_student) == ("paraphraser", 30, rate, False)


def test_fts_main_stage_leaves_the_paraphraser_as_it_is() -> None:
    """Not even weight decay and momentum touch it, also where its own stage left gradients."""
    method = build("ft", RESNET20, RESNET56)
    method.paraphraser.train()
    teacher = features_like(RESNET56)
    optimizer = torch.optim.SGD(method.parameters(), lr=0.1, momentum=0.9, weight_decay=0.1)
    method.initial_stages()[0].loss(None, teacher, BATCH)["reconstruction"].backward()
    method.train()
    before = {name: value.clone() for name, value in method.state_dict().items()}
    for _ in range(2):
        method(features_like(RESNET20), teacher, BATCH)[0].backward()
        optimizer.step()
    for name, value in method.state_dict().items():
        assert torch.equal(value, before[name]) == name.startswith("paraphraser."), name
