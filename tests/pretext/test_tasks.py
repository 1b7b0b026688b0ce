"""The other pretext tasks: their views, what their heads learn, what they transfer, and a training from end to end."""

import math
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from benchmarks.planning.plan import check_runs
from benchmarks.profiles.read import read_profile
from sskd.config.settings import PretextSettings
from sskd.data.augment import Augmentation
from sskd.data.batch import Batch
from sskd.errors import UserError
from sskd.losses import kd_divergence
from sskd.methods import METHODS, MethodContext
from sskd.networks import NETWORKS, Features, FeatureShapes, build_network
from sskd.pretext import PRETEXTS, Pretext, PretextContext
from sskd.pretext.base import TransferConfig
from sskd.pretext.jigsaw import ORDERS, Puzzles, lay_out
from sskd.runs.settings import method_settings
from tests import small

HOW = TransferConfig(0.5, 0.75, "kl")
IMAGES, WIDTH, TOTAL = 6, 8, 40


def make(name: str) -> Pretext:
    torch.manual_seed(0)
    return PRETEXTS[name](PretextSettings(name=name), PretextContext(WIDTH, TOTAL))


def batch_of(task: Pretext) -> Batch:
    raw = torch.randint(0, 256, (IMAGES, 3, 8, 8), dtype=torch.uint8)
    draws = torch.Generator().manual_seed(0)
    images, labels = task.view_transform(task.settings)(raw, Augmentation(1, True), draws)
    return Batch(images.float(), torch.zeros(IMAGES, dtype=torch.long), torch.arange(IMAGES) + 10, labels, draws)


@pytest.mark.parametrize("order", range(24))
def test_quarters_are_laid_out(order: int) -> None:
    image = torch.arange(3 * 4 * 6, dtype=torch.uint8).view(1, 3, 4, 6)
    quarters = [image[0, :, y : y + 2, x : x + 3] for y in (0, 2) for x in (0, 3)]
    done = lay_out(image, torch.tensor([order]))[0]
    expected = [quarters[k] for k in ORDERS[order]]
    assert torch.equal(done, torch.cat([torch.cat(expected[:2], 2), torch.cat(expected[2:], 2)], 1))


def test_puzzles_are_every_samples_own_and_uniform() -> None:
    images = torch.arange(64, dtype=torch.uint8).view(1, 1, 8, 8).expand(2400, 3, 8, 8)
    views, labels = Puzzles()(images, Augmentation(0, False), torch.Generator().manual_seed(0))
    assert labels is not None
    assert torch.equal(views[::4], images)
    assert (labels[::4] == 0).all()
    assert torch.equal(views, lay_out(images.repeat_interleave(4, 0), labels))
    counts = torch.bincount(labels.view(-1, 4)[:, 1:].flatten(), minlength=24)
    assert (counts - 300).abs().max() < 5 * 300**0.5


@pytest.mark.parametrize("name", ["rotation", "jigsaw", "exemplar"])
def test_loss_is_cross_entropy_with_the_tasks_labels(name: str) -> None:
    task = make(name)
    batch = batch_of(task)
    vector = torch.randn(4 * IMAGES, WIDTH)
    loss, right = task.loss(task(vector), batch)
    scores = task.classifier(vector)
    target = batch.indices.repeat_interleave(4) if name == "exemplar" else batch.view_labels
    assert target is not None
    if name == "jigsaw":
        rows = [row for row in range(4 * IMAGES) if row % 4]
        scores, target = scores[rows], target[rows]
    torch.testing.assert_close(loss, F.cross_entropy(scores, target))
    assert right.item() == pytest.approx((scores.argmax(1) == target).float().mean().item())
    loss.backward()
    assert all(p.grad is not None for p in task.parameters())


@pytest.mark.parametrize("name", ["rotation", "jigsaw", "exemplar"])
def test_transfer_is_the_divergence_without_selection(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    import sskd.pretext.exemplar

    monkeypatch.setattr(sskd.pretext.exemplar, "BLOCK_SCORES", 5 * TOTAL)  # several blocks, the last one smaller
    task = make(name)
    batch = batch_of(task)
    teacher = task(torch.randn(4 * IMAGES, WIDTH)).detach()
    student = task(torch.randn(4 * IMAGES, WIDTH)).detach().requires_grad_()
    loss = task.transfer(student, teacher, batch, HOW).loss
    rows = torch.tensor([row for row in range(4 * IMAGES) if name != "jigsaw" or row % 4])
    expected = kd_divergence(student[rows], teacher[rows], 0.5)
    torch.testing.assert_close(loss, expected)
    found, wanted = (torch.autograd.grad(value, student)[0] for value in (loss, expected))
    torch.testing.assert_close(found, wanted)
    assert task.transfer(teacher, teacher, batch, HOW).loss.item() == pytest.approx(0, abs=1e-5)


@pytest.mark.parametrize("cut", [False, True])
def test_a_head_may_name_its_layers_as_published_files_do(
    cut: bool, runs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Files of published networks call "classifier.0.weight" what is renamed when they are read; a head's is not."""

    class Deep(PRETEXTS["rotation"]):  # type: ignore[misc]
        def __init__(self, settings: Any, context: PretextContext) -> None:
            super().__init__(settings, context)
            self.classifier = nn.Sequential(self.classifier, nn.ReLU())

    monkeypatch.setitem(PRETEXTS._entries, "rotation", Deep)
    spec = small.spec(small.student("sskd", head=small.head("rotation")))
    assert spec.head is not None
    small.link_needs(runs, tmp_path, spec.head)
    small.train_all(spec.head, tmp_path)
    weights = tmp_path / spec.head.id / "last.safetensors"
    if cut:
        weights.write_bytes(weights.read_bytes()[:-4])
        with pytest.raises(UserError, match=r"last\.safetensors is damaged"):
            small.train_all(spec, tmp_path)
    else:
        small.train_all(spec, tmp_path)
        assert math.isfinite(small.metrics(tmp_path / spec.id)[-1]["loss_ss"])


@pytest.mark.parametrize("name", ["rotation", "jigsaw", "exemplar"])
def test_head_and_student_train(name: str, runs: Path, tmp_path: Path) -> None:
    """Trains head and student end to end. The student's split differs from the head's, whose classes exemplar keeps."""
    head = small.head(name, split={"fraction": 0.06})
    spec = small.spec(small.student("sskd", head=head))
    assert spec.head is not None
    small.link_needs(runs, tmp_path, spec.head)
    small.train_all(spec, tmp_path)
    row = small.metrics(tmp_path / spec.id)[-1]
    assert math.isfinite(row["loss_ss"])
    assert row["loss_ss"] > 0
    head_row = small.metrics(tmp_path / spec.head.id)[-1]
    assert ("test_head_top1" in head_row) is (name != "exemplar")


@pytest.mark.parametrize("name", ["rotation", "jigsaw", "exemplar"])
@pytest.mark.parametrize("keep", [0.5, 0.0, 1.0])
def test_what_a_task_ignores_is_refused(name: str, keep: float) -> None:
    def student(task: str, **more: Any) -> Any:
        return small.spec(small.student({"name": "sskd"} | more, head=small.head(task)))

    with pytest.raises(UserError, match="'ss_keep' is ignored by this pretext task"):
        student(name, ss_keep=keep)
    assert student(name, ss_keep=0.75).id == student(name).id  # a run writes its defaults too
    assert student("contrastive", ss_keep=keep).id != student("contrastive").id


@pytest.mark.parametrize("sees", ["logits", "a map", "pooled"])
def test_what_a_task_reads_of_a_network_is_transferred(sees: str) -> None:
    """The student learns what the task's ``read`` takes of both networks, not always the pooled features."""
    reads = {
        "logits": lambda f: f.logits,
        "a map": lambda f: f.feature_maps[-1].mean((2, 3)),
        "pooled": lambda f: f.pooled,
    }

    class Reading(PRETEXTS["rotation"]):  # type: ignore[misc]
        required_features = frozenset({"feature_maps"}) if sees == "a map" else frozenset()

        def read(self, features: Features) -> torch.Tensor:
            return self(reads[sees](features))

    def side(seed: int) -> Features:
        torch.manual_seed(seed)
        pooled = torch.randn(4 * IMAGES, WIDTH)
        maps = (torch.randn(4 * IMAGES, WIDTH, 2, 2),)
        return Features(torch.randn(4 * IMAGES, WIDTH), maps, pooled, maps)

    head = Reading(PretextSettings(name="rotation"), PretextContext(WIDTH, TOTAL))
    shapes, network = FeatureShapes("made", ((WIDTH, 2, 2),), WIDTH), build_network("resnet8", WIDTH)
    context = MethodContext(network, shapes, WIDTH, torch.zeros(TOTAL, dtype=torch.long), network, shapes, head)
    method = METHODS["sskd"](method_settings("sskd", t_weight=0), context)
    student, teacher, batch = side(1), side(2), batch_of(head)
    found = method.loss_terms(student, teacher, batch).losses["ss"]
    outputs = method.head(reads[sees](student)), head(reads[sees](teacher))
    torch.testing.assert_close(found, head.transfer(*outputs, batch, HOW).loss)
    assert ("feature_maps" in method.required_features) is (sees == "a map")
    assert method.head.context.network == "made"


def test_a_task_that_reads_maps_is_refused_a_network_without(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(PRETEXTS["rotation"], "required_features", frozenset({"feature_maps"}))

    @NETWORKS.register("flat")
    def flat(num_classes: int) -> nn.Module:
        return nn.Sequential(nn.AdaptiveAvgPool2d(2), nn.Flatten(), nn.Linear(12, num_classes))

    teacher = small.teacher(network="flat")
    specs = [small.spec(data) for data in (teacher, small.head("rotation", network="flat", teacher={"run": teacher}))]
    check_runs(specs[:1], read_profile("demo", []), tmp_path)
    with pytest.raises(UserError, match="'rotation' needs feature maps.*network_settings.flat.taps"):
        check_runs(specs, read_profile("demo", []), tmp_path)
