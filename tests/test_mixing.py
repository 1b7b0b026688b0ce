"""Label smoothing, mixup, CutMix and averages of weights: what they compute, what they refuse, and that runs resume."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from torch.nn import functional as F

from sskd.config.recipe import Recipe
from sskd.data.batch import Batch
from sskd.data.mixing import mixed
from sskd.distillation.distiller import Distiller
from sskd.errors import UserError
from sskd.methods import METHODS, check_recipe
from sskd.networks import build_network
from sskd.runs.settings import method_settings
from sskd.runs.trained import load_student
from sskd.training.tasks.stage import Average
from tests import small

# at, cc, ...: their own terms see no label, and one view of each image
ON_MIXED = {
    *("ab", "at", "catkd", "cc", "dist", "fcfd", "fitnet", "fsp", "ft", "kd", "kd_again", "luminet", "none", "norm"),
    *("nst", "ofd", "pkt", "reviewkd", "rkd", "semckd", "simkd", "sp", "srrl", "ttm", "vid", "wkdf", "wttm"),
}
ALL: dict[str, Any] = {"label_smoothing": 0.1, "mixup": 0.8, "cutmix": 1.0, "ema": 0.9}
CASES = [
    *(("student", ALL), ("teacher", ALL)),
    *(pytest.param("student", {name: value}, marks=pytest.mark.slow) for name, value in ALL.items()),
]


def batch_of(images: int = 12, classes: int = 10, seed: int = 0) -> Batch:
    draws = torch.Generator().manual_seed(seed)
    pixels = torch.randn(images, 3, 32, 32, generator=draws).to(memory_format=torch.channels_last)
    labels = torch.arange(images) % classes
    return Batch(pixels, labels, torch.arange(images), None, draws, images)


def distiller_of(method: str, recipe: Recipe) -> Distiller:
    torch.manual_seed(0)
    student, teacher = build_network("resnet8", 10), build_network("resnet14", 10)
    needed = teacher if METHODS[method].needs_teacher else None
    return Distiller(student, needed, method, num_classes=10, sample=torch.rand(2, 3, 32, 32), recipe=recipe)


def test_mixups_loss_is_the_mixture_of_two_losses() -> None:
    plain, recipe = batch_of(), Recipe(mixup=0.8)
    batch = mixed(plain, recipe, 10)
    assert batch.mixed_labels is not None
    share = float(batch.mixed_labels[0, 0])
    assert 0 < share < 1
    blended = share * plain.images + (1 - share) * plain.images.roll(1, 0)
    torch.testing.assert_close(batch.images, blended)
    assert batch.images.is_contiguous(memory_format=torch.channels_last)
    distiller = distiller_of("none", recipe)
    loss, _ = distiller.loss(batch)
    with torch.no_grad():
        logits = distiller.network(batch.images)
    parts = F.cross_entropy(logits, plain.labels), F.cross_entropy(logits, plain.labels.roll(1))
    torch.testing.assert_close(loss.detach(), share * parts[0] + (1 - share) * parts[1])


def test_cutmix_pastes_one_box_and_mixes_labels_by_its_area() -> None:
    plain = batch_of()
    batch = mixed(plain, Recipe(cutmix=1.0), 10)
    pasted = (batch.images != plain.images).all(1)
    assert 0 < pasted[0].sum() < 32 * 32
    assert torch.equal(pasted, pasted[:1].expand_as(pasted))
    assert torch.equal(batch.images[1][:, pasted[0]], plain.images[0][:, pasted[0]])
    assert batch.mixed_labels is not None
    assert float(batch.mixed_labels[1, 1]) == pytest.approx(1 - pasted[0].sum().item() / 32**2, abs=1e-6)


def test_what_is_drawn_follows_from_the_batchs_seed_alone() -> None:
    recipe = Recipe(mixup=0.8, cutmix=1.0)
    before = torch.get_rng_state()
    first = [mixed(batch_of(seed=seed), recipe, 10) for seed in range(12)]
    assert torch.equal(torch.get_rng_state(), before)
    torch.manual_seed(7)
    again = [mixed(batch_of(seed=seed), recipe, 10) for seed in range(12)]
    assert all(torch.equal(a.images, b.images) for a, b in zip(first, again, strict=True))
    shares = [float(batch.mixed_labels[0, 0]) for batch in first if batch.mixed_labels is not None]
    assert len(set(shares)) == 12
    kinds = {bool((batch.images == batch_of(seed=seed).images).any()) for seed, batch in enumerate(first)}
    assert kinds == {True, False}  # CutMix leaves pixels as they are, mixup none


@pytest.mark.parametrize("method", ["none", "mlkd"])
def test_label_smoothing_is_torchs(method: str) -> None:
    smooth, hard = (distiller_of(method, Recipe(label_smoothing=x)) for x in (0.1, 0.0))
    batch = batch_of(24 if method == "mlkd" else 12)._replace(labels=torch.arange(12) % 10)
    (_, found), (_, plain) = smooth.loss(batch), hard.loss(batch)
    with torch.no_grad():
        logits = hard.network(batch.images)
    for name, rows in {"ce": slice(0, None, batch.views_per_image), "ce_strong": slice(1, None, 2)}.items():
        if name in found.losses:
            wanted = F.cross_entropy(logits[rows], batch.labels, label_smoothing=0.1)
            torch.testing.assert_close(found.losses[name].detach(), wanted)
            assert found.losses[name] != plain.losses[name]


@pytest.mark.parametrize("method", sorted(METHODS))
def test_a_method_takes_mixed_images_if_its_own_terms_see_no_label(method: str) -> None:
    settings, recipe = method_settings(method), Recipe(mixup=0.8, batch_size=12)
    if method not in ON_MIXED:
        with pytest.raises(UserError, match=rf"^method '{method}' .*: set recipe.mixup to 0"):
            check_recipe(settings, recipe)
        return
    check_recipe(settings, recipe)
    terms = []
    for roll in (0, 1):
        distiller, batch = distiller_of(method, recipe), batch_of()
        distiller.method.begin_epoch(5)
        if distiller.method.studies:
            distiller.study([(batch.images, batch.labels)])
        _, found = distiller.loss(batch._replace(labels=batch.labels.roll(roll)))
        terms.append({name: value.item() for name, value in found.losses.items()})
    assert terms[0].pop("ce") != terms[1].pop("ce")
    assert terms[0] == terms[1]


def test_a_head_has_no_average() -> None:
    with pytest.raises(UserError, match=r"recipe.ema is for teachers and students"):
        small.spec(small.head(recipe=small.RECIPE | {"ema": 0.9}))


def test_the_average_of_weights() -> None:
    network = build_network("resnet8", 10)
    average, weights = Average(network, 0.75), []
    for step in range(3):
        with torch.no_grad():
            for tensor in (*network.parameters(), *network.buffers()):
                tensor.fill_(step + 1)
        first = next(average.network.parameters()).flatten()[0].item() if not step else 0.0
        weights.append(first)
        average.update()
    wanted = weights[0] * 0.75**3 + 0.25 * (1 * 0.75**2 + 2 * 0.75 + 3)
    parameter = next(average.network.parameters())
    assert parameter.flatten()[0].item() == pytest.approx(wanted)
    assert not parameter.requires_grad
    assert average.network.bn1.running_var[0].item() == pytest.approx(0.75**3 + 0.25 * (0.75**2 + 2 * 0.75 + 3))
    assert average.network.bn1.num_batches_tracked.item() == 3


@pytest.mark.parametrize(
    ("role", "options"), CASES, ids=lambda value: value if isinstance(value, str) else "-".join(value)
)
def test_a_run_with_it_is_resumed_to_the_same_end(
    role: str, options: dict[str, Any], runs: Path, tmp_path: Path
) -> None:
    make = getattr(small, role)
    spec = small.spec(make(recipe=small.RECIPE | options))
    whole = small.assert_resumes(spec, tmp_path, runs)
    names = {"best", "last"} | ({"ema"} if "ema" in options else set())
    assert {path.stem for path in whole.glob("*.safetensors")} == names
    if "ema" in options:
        last_row = json.loads((whole / "result.json").read_text())["last"]
        assert {"test_ema_top1", "test_ema_top5", "test_ema_loss"} <= last_row.keys()
        ema, last = (load_file(whole / f"{name}.safetensors") for name in ("ema", "last"))
        assert ema.keys() == last.keys()
        assert not torch.equal(ema["fc.weight"], last["fc.weight"])
        network, _ = load_student(whole, "ema")
        assert torch.equal(network.fc.weight, ema["fc.weight"])
