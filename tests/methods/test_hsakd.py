"""HSAKD beside its golden values: its branches, its views, its teacher's stage, and what it refuses."""

from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from sskd.data.augment import Augmentation
from sskd.data.views import Rotated
from sskd.distillation.heads import train_head
from sskd.errors import UserError
from sskd.networks import build_network
from sskd.networks.auxiliary_classifiers import AuxiliaryClassifiers
from sskd.pretext.hsakd import joint_labels
from sskd.runs.spec import parse_spec
from sskd.training.setup import prepare
from sskd.training.tasks import build_task
from tests import small
from tests.golden import LOSSES, labels
from tests.methods.given import Given
from tests.methods.golden_networks import hsakd_losses

COUNTS = {  # parameters of all branches, for 100 classes; those of other networks have golden values
    "resnet8x4": 3_557_296,
    "wrn_40_1": 1_484_432,
    "resnet56": 2_206_064,
    "resnet32x4": 18_907_056,
    "wrn_40_2": 5_769_328,
    "vgg13": 37_049_664,
    "ResNet50": 76_976_704,
}


def test_a_head_alone_has_no_cross_entropy_of_its_network() -> None:
    """A label of the branches stands for a class and a rotation."""
    loss, terms, _ = hsakd_losses(Given(torch.float32), joint=False)
    assert set(terms.losses) == {"hsakd"}
    assert loss.item() == terms.losses["hsakd"].item()
    assert joint_labels(labels(308, 8, 100)).tolist() == LOSSES["hsakd_teacher"]["joint_labels"]


def test_a_teacher_that_learns_with_its_branches_teaches(runs: Path, tmp_path: Path) -> None:
    """HSAKD*: the head's run resumes to the same weights, and its network is the student's teacher."""
    head = small.head({"name": "hsakd", "joint": True})
    spec = small.spec(head)
    small.train_all(spec, runs)
    small.link_needs(runs, tmp_path, spec)
    assert small.train_with_stops(spec, tmp_path, every=2) == 3
    files = [folder / spec.id / "last.safetensors" for folder in (runs, tmp_path)]
    assert files[0].read_bytes() == files[1].read_bytes()
    assert small.metrics(runs / spec.id)[-1]["test_top1"] > 0
    student = small.spec(small.student("hsakd", head=head))
    task: Any = build_task(prepare(student, runs, small.EXECUTION))
    weights = load_file(files[0])
    assert torch.equal(task.teacher.fc.weight, weights["network.fc.weight"])
    assert not torch.equal(
        task.teacher.fc.weight, load_file(runs / spec.dependencies[0].id / "best.safetensors")["fc.weight"]
    )
    assert not task.teacher.training
    assert not [name for name in task.modules.state_dict() if name.startswith("teacher")]
    with pytest.raises(UserError, match="trains a network with its head"):
        train_head(build_network("resnet8", 10), [(torch.rand(4, 3, 32, 32), torch.arange(4))], head["pretext"])


def test_branches_have_as_many_parameters_as_published() -> None:
    with torch.device("meta"):
        found = {name: sum(p.numel() for p in AuxiliaryClassifiers(name, 400).parameters()) for name in COUNTS}
    assert found == COUNTS


def test_all_views_are_turns_of_one_crop() -> None:
    images = torch.randint(256, (5, 3, 8, 8), dtype=torch.uint8)
    views, turns = Rotated()(images, Augmentation(), torch.Generator().manual_seed(0))
    assert turns is not None
    assert turns.tolist() == [0, 1, 2, 3] * 5
    for row, turn in enumerate(turns.tolist()):
        assert torch.equal(views[row], views[row - turn].rot90(turn, (1, 2)))


def test_heads_are_of_the_methods_own_task() -> None:
    small.spec(small.student("hsakd", head=small.head("hsakd")))
    for method, task in (("hsakd", "contrastive"), ("sskd", "hsakd")):
        with pytest.raises(UserError, match=f"the method '{method}' needs a head .*'{task}'"):
            parse_spec(small.student(method, head=small.head(task)), "test")
