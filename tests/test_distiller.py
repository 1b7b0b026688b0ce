"""sskd.Distiller in somebody's own loop: any networks, what it holds, its views, stages and heads, what it refuses."""

import copy
import io
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import sskd
from sskd.config.recipe import Recipe
from sskd.data.augment import Augmentation
from sskd.methods import METHODS
from sskd.networks import build_network

CLASSES, SIZE, N = 5, 16, 24
MEAN, STD = (0.4, 0.5, 0.6), (0.2, 0.3, 0.25)


class Net(nn.Module):
    """A user's network: without a base class of the suite, with logits as its output."""

    def __init__(self, width: int = 4, classes: int = CLASSES) -> None:
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(3, width, 3, padding=1), nn.BatchNorm2d(width), nn.ReLU(inplace=True))
        self.middle = nn.Sequential(nn.Conv2d(width, 2 * width, 3, 2, 1), nn.BatchNorm2d(2 * width), nn.ReLU())
        self.last = nn.Sequential(nn.Conv2d(2 * width, 2 * width, 3, 2, 1), nn.ReLU())
        self.fc = nn.Linear(2 * width, classes)

    def forward(self, images: Tensor) -> Tensor:
        return self.fc(self.last(self.middle(self.stem(images))).mean((2, 3)))


TAPS = ("stem", "middle", "last")


def uint8_images(count: int = 8) -> Tensor:
    return torch.randint(256, (count, 3, SIZE, SIZE), dtype=torch.uint8, generator=torch.Generator().manual_seed(3))


def batch(count: int = 8) -> tuple[Tensor, Tensor, Tensor]:
    images = uint8_images(count) / 127.5 - 1
    return images, torch.arange(count) % CLASSES, torch.arange(count)


def distiller(method: Any = "kd", **more: Any) -> sskd.Distiller:
    torch.manual_seed(0)
    nets: dict[str, Any] = {"student": Net(4), "teacher": Net(6)} | more
    student, teacher = nets.pop("student"), nets.pop("teacher")
    given = {"num_classes": CLASSES, "sample": batch(2)[0], "train_labels": torch.arange(N) % CLASSES} | nets
    return sskd.Distiller(student, teacher, method, **given)


def step(module: Any, optimizer: torch.optim.Optimizer, *given: Tensor) -> float:
    loss, terms = module(*given)
    assert all(value.dim() == 0 and not value.requires_grad for value in terms.values())
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    if isinstance(module, sskd.Distiller):
        module.after_step()
    return loss.item()


OWN = [name for name in METHODS if name not in ("hsakd", "ofd", "fcfd")]  # which know the suite's networks alone


@pytest.mark.parametrize("method", OWN)
def test_any_two_networks(method: str) -> None:
    """Each method with two networks of no base class: it trains what it says, and leaves the teacher alone."""
    kind = METHODS[method]
    loader = [batch(), batch()]
    more: dict[str, Any] = {"taps": TAPS, "pooled": "last", "mean": MEAN, "std": STD}
    more["recipe"] = Recipe(batch_size=8)
    if kind.needs_head:
        more["head"] = sskd.train_head(Net(6), loader, epochs=1)
    settings: Any = sskd.settings("crd", negatives=4) if method == "crd" else method
    made = distiller(settings, **more | ({"student": Net(6)} if method == "fsp" else {}))
    teacher = [*made._frozen[0].network.parameters()] if made._frozen[0] is not None else []  # type: ignore[union-attr]
    before = [value.clone() for value in teacher]
    if made.method.studies:
        with pytest.raises(sskd.UserError, match="study"):
            made(*batch())
        made.study([batch(N)])
    for stage in made.initial_stages():
        rate = torch.optim.SGD(stage.parameters(), stage.learning_rate or 0.01)
        assert step(stage, rate, *batch()) > 0
    optimizer = made.optimizer(Recipe(learning_rate=0.01))
    made.begin_epoch(0, 2)
    first = step(made, optimizer, *batch())
    made.begin_epoch(1, 2)
    assert step(made, optimizer, *batch()) != first
    assert not {id(p) for p in made.parameters()} & {id(p) for p in teacher}
    assert all(torch.equal(*pair) for pair in zip(teacher, before, strict=True))
    kept = made.student
    assert isinstance(kept, Net) == (method not in ("simkd", "norm"))
    assert kept(batch()[0]).shape == (8, CLASSES)


# --- as a module ------------------------------------------------------------------------------------------------------


def test_the_teacher_stays_frozen_whatever_is_done_to_the_module() -> None:
    teacher = Net(6)
    made = distiller("crd", teacher=teacher)
    saved = io.BytesIO()
    torch.save(made, saved)
    saved.seek(0)
    loaded = torch.load(saved, weights_only=False)
    images, labels, indices = batch()
    losses = []
    for other in (made, copy.deepcopy(made), loaded):
        other.train()
        theirs = other._frozen[0]
        assert not any(part.training for part in theirs.modules())
        assert not any(p.requires_grad for p in theirs.parameters())
        losses.append(other(images, labels, indices)[0].item())
    assert len(set(losses)) == 1
    assert loaded._frozen[0] is not teacher
    assert not [key for key in made.state_dict() if "teacher" in key and "embed" not in key and "banks" not in key]
    assert {key.split(".")[0] for key in made.state_dict()} == {"network", "method"}
    assert made.to(torch.float64)._frozen[0].network.fc.weight.dtype == torch.float64  # type: ignore[union-attr]


def test_a_saved_state_goes_on() -> None:
    made, again = distiller("crd"), distiller("crd", seed=1)
    step(made, torch.optim.SGD(made.parameters(), 0.01), *batch())
    again.load_state_dict(made.state_dict())
    for other in (made, again):
        other.begin_epoch(1)
        other._seed = 7
    assert made(*batch())[0].item() == again(*batch())[0].item()


def test_torchs_random_state_is_left_alone() -> None:
    student, teacher, before = Net(4), Net(6), torch.get_rng_state()
    sskd.Distiller(student, teacher, "crd", num_classes=CLASSES, sample=batch(2)[0], train_labels=torch.arange(N) % 5)
    assert torch.equal(torch.get_rng_state(), before)


def test_networks_run_in_the_autocast_of_the_loop() -> None:
    made = distiller("crd")
    plain = made(*batch(), generator=torch.Generator().manual_seed(0))[0]
    with torch.autocast("cpu", torch.bfloat16):
        lower = made(*batch(), generator=torch.Generator().manual_seed(0))[0]
    assert lower.dtype == torch.float32
    assert lower.item() == pytest.approx(plain.item(), rel=0.05)


@pytest.mark.parametrize(
    ("method", "backend"), [("crd", "eager"), pytest.param("kd", "inductor", marks=pytest.mark.slow)]
)
def test_a_compiled_distiller_takes_the_same_steps(
    method: str, backend: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is compiled in the first two steps (the first also makes the forward passes), and never again."""
    monkeypatch.setenv("TORCHINDUCTOR_CACHE_DIR", str(tmp_path))
    plain, made = distiller(method), distiller(method)
    compiled: Any = torch.compile(made, backend=backend)
    updates = torch.optim.SGD(plain.parameters(), 0.05), torch.optim.SGD(made.parameters(), 0.05)

    def steps(epoch: int) -> None:
        for module in (plain, made):
            module.begin_epoch(epoch, 240)
        expected = step(plain, updates[0], *batch())
        assert step(compiled, updates[1], *batch()) == pytest.approx(expected, rel=1e-4)
        made.after_step()

    steps(0)
    steps(0)
    with torch.compiler.set_stance("fail_on_recompile"):
        for epoch in (1, 2):
            steps(epoch)


# --- views, stages, settings ------------------------------------------------------------------------------------------


def test_views_are_made_from_either_kind_of_images() -> None:
    """The uint8 images and the same images as normalised floats give the same views, and therefore the same loss."""
    mean, std = (torch.tensor(values).view(3, 1, 1) for values in (MEAN, STD))
    images, labels = uint8_images(), batch()[1]
    floats = (images / 255 - mean) / std
    head = sskd.train_head(Net(6), [(floats, labels)], epochs=1)
    for method in ("sskd", "mlkd", "kd"):
        losses = [
            distiller(method, head=head, mean=MEAN, std=STD).eval()(given, labels)[0].item()
            for given in (images, floats)
        ]
        assert losses[0] == pytest.approx(losses[1], rel=1e-4)
    made = distiller("kd", mean=MEAN, std=STD, augmentation=Augmentation())
    assert made(images, labels)[0] != made(images, labels)[0], "each step draws its own crops"


def test_a_forgotten_stage_is_told() -> None:
    made = distiller("ft", taps=TAPS)
    with pytest.raises(sskd.UserError, match="paraphraser"):
        made(*batch())
    for stage in made.initial_stages():
        assert (stage.name, stage.epochs) == ("paraphraser", 30)
        assert not made.network.training
    assert made.training
    made(*batch())
    again = distiller("ft", taps=TAPS)
    again.load_state_dict(made.state_dict())
    again(*batch())


def test_settings() -> None:
    """Settings may have the paper's names; for two networks of the suite they are completed with the pair's published
    values."""
    assert sskd.settings("dkd", beta=3.0, temperature=2.0).nckd_weight == 3.0  # type: ignore[attr-defined]
    with pytest.raises(sskd.UserError, match="betta"):
        sskd.settings("dkd", betta=3.0)
    teacher, student = build_network("wrn_40_2", 10), build_network("wrn_16_2", 10)
    given = {"num_classes": 10, "sample": torch.rand(2, 3, 32, 32)}
    of_pair: Any = sskd.Distiller(student, teacher, sskd.settings("dkd", temperature=2.0), **given).settings
    assert (of_pair.nckd_weight, of_pair.temperature) == (6.0, 2.0)
    assert sskd.Distiller(student, teacher, "dkd", published=False, **given).settings.nckd_weight == 8.0  # type: ignore[attr-defined]


def test_taps_are_suggested(capsys: pytest.CaptureFixture[str]) -> None:
    found = sskd.suggest_taps(Net(4), batch(2)[0], Net(6))
    assert list(found.values()) == [(4, 16, 16), (8, 8, 8), (8, 4, 4)]
    shown = capsys.readouterr().out.splitlines()
    assert len(shown) == 3
    assert all(line.endswith("same size") for line in shown)
    distiller("at", taps=tuple(found))(*batch())


def test_a_finished_runs_head(runs: Path) -> None:
    from tests import small

    head = sskd.load_head(runs / small.spec(small.head()).id)
    teacher, student = build_network("resnet8", 10), build_network("resnet8", 10)
    made = sskd.Distiller(student, teacher, "sskd", num_classes=10, sample=torch.rand(2, 3, 32, 32), head=head)
    loss, terms = made(torch.rand(4, 3, 32, 32), torch.arange(4))
    assert terms["ss"] > 0
    assert loss.requires_grad
    with pytest.raises(sskd.UserError, match="not of a head"):
        sskd.load_head(runs / small.spec(small.teacher()).id)


# --- what is refused --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("words", "more", "call"),
    [
        ("labels are 0 to 5", {}, lambda x, y, n: (x, y + (y == 4).long(), n)),
        ("labels are .* int64", {}, lambda x, y, n: (x, y.float(), n)),
        ("needs the images' indices", {"method": "crd"}, lambda x, y, n: (x, y)),
        ("indices are 0 to 24", {"method": "crd"}, lambda x, y, n: (x, y, n + (n == 7).long() * 17)),
        ("the batch has 1 image", {}, lambda x, y, n: (x[:1], y[:1], n[:1])),
        ("images are 8 x 8", {}, lambda x, y, n: (x[:, :, :8, :8], y, n)),
        ("NaN", {}, lambda x, y, n: (x * float("nan"), y, n)),
        ("one label per image", {}, lambda x, y, n: (x, y[:4], n[:4])),
        ("uint8 images must be normalised", {}, lambda x, y, n: (uint8_images(), y, n)),
        ("the teacher has no linear layer with 5 outputs", {"teacher": Net(6, 7)}, None),
        ("the student has no linear layer with 9", {"num_classes": 9}, None),
        ("needs a teacher", {"teacher": None}, None),
        ("needs the teacher's head", {"method": "sskd"}, None),
        ("compares maps.*taps, such as 'stem", {"method": "at"}, None),
        ("did you mean 'middle'", {"method": "at", "taps": ("middel",)}, None),
        ("needs train_labels", {"method": "crd", "train_labels": None}, None),
        ("unknown method 'kdd'", {"method": "kdd"}, None),
        ("not registered", {"method": type("Mine", (sskd.Method,), {})}, None),
    ],
)
def test_wrong_use_gets_one_sentence(words: str, more: dict[str, Any], call: Any) -> None:
    with pytest.raises(sskd.UserError, match=words) as caught:
        distiller(**more)(*call(*batch()))
    assert "\n" not in str(caught.value)


def test_crd_without_labels_says_what_it_does_instead() -> None:
    with pytest.warns(UserWarning, match="no train_labels"):
        made = distiller(sskd.settings("crd", negatives=4), train_labels=None, train_images=N)
    made(*batch())
