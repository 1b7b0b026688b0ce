"""HSAKD: golden losses and branches, its views, its teacher's stage, and what it refuses."""

from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor, nn

from sskd.data.augment import Augmentation
from sskd.data.batch import Batch
from sskd.data.views import Rotated
from sskd.distillation.heads import train_head
from sskd.errors import UserError
from sskd.methods import METHODS
from sskd.methods.hsakd import classifier_divergence
from sskd.networks import Features, build_network, feature_shapes
from sskd.networks.auxiliary_classifiers import AuxiliaryClassifiers
from sskd.pretext import PRETEXTS, PretextContext
from sskd.pretext.hsakd import joint_labels
from sskd.runs.settings import method_settings
from sskd.runs.spec import parse_spec
from sskd.training.setup import prepare
from sskd.training.tasks import build_task
from sskd.training.tasks.head import HeadTask
from tests import small
from tests.golden import LOSSES, assert_golden, assert_outputs, labels, parameter_value, tensor

LEVELS = range(3)
COUNTS = {  # parameters of all branches, for 100 classes
    "resnet20": 762_992,
    "resnet8x4": 3_557_296,
    "wrn_16_2": 1_928_304,
    "wrn_40_1": 1_484_432,
    "MobileNetV2": 4_671_496,
    "ShuffleV1": 3_118_740,
    "ShuffleV2": 4_519_988,
    "resnet56": 2_206_064,
    "resnet32x4": 18_907_056,
    "wrn_40_2": 5_769_328,
    "vgg13": 37_049_664,
    "ResNet50": 76_976_704,
    "vgg8": 16_833_984,
}


def inputs() -> tuple[list[Tensor], Tensor, list[Tensor], Tensor]:
    """Student's logits and branches with gradient; teacher's; labels. Eight images, four views each."""
    student = [3 * tensor(300, 32, 100), *(3 * tensor(302 + level, 32, 400) for level in LEVELS)]
    teacher = [3 * tensor(305 + level, 32, 400) for level in LEVELS]
    return [t.requires_grad_() for t in student], 3 * tensor(301, 32, 100), teacher, labels(308, 8, 100)


class Given(nn.Module):
    """Stub of the auxiliary classifiers that returns the given scores."""

    def __init__(self, scores: list[Tensor]) -> None:
        super().__init__()
        self.scores = scores

    def read(self, features: Features) -> Any:
        return self.scores


def method_and_batch() -> tuple[Any, Batch, list[Tensor], Tensor]:
    student, teacher_logits, teacher, wanted = inputs()
    method: Any = METHODS["hsakd"].__new__(METHODS["hsakd"])
    nn.Module.__init__(method)
    method.settings, method._smoothing = method_settings("hsakd"), 0.0
    method.branches = Given(student[1:])
    method._teacher_head = (Given(torch.stack(teacher)),)  # type: ignore[arg-type]
    batch = Batch(torch.zeros(32, 3, 1, 1), wanted, torch.arange(8), None, torch.Generator())
    return method, batch, student, teacher_logits


def test_the_students_objective() -> None:
    method, batch, student, teacher = method_and_batch()
    pooled = torch.zeros(32, 4)
    total, terms = method(Features(student[0], (), pooled, ()), Features(teacher, (), pooled, ()), batch)
    assert terms.losses.keys() == {"ce", "branches", "turned_logits"}
    assert_golden("hsakd_student", total, student)


def test_the_teachers_objective() -> None:
    """A network that is trained with its auxiliary classifiers has the golden loss; a frozen one has it without
    cross-entropy."""
    student, _, _, wanted = inputs()
    head: Any = PRETEXTS["hsakd"].__new__(PRETEXTS["hsakd"])
    nn.Module.__init__(head)
    head.branches, head.network = Given(student[1:]), None
    batch = Batch(torch.zeros(32, 3, 1, 1), wanted, torch.arange(8), None, torch.Generator())
    task = HeadTask.__new__(HeadTask)
    task.head, task.name = head, "hsakd"
    features = Features(student[0], (), torch.zeros(32, 4), ())
    frozen, _ = task._losses(features, batch)
    head.network = nn.Identity()
    joint, terms = task._losses(features, batch)
    assert terms.losses.keys() == {"hsakd", "ce"}
    assert frozen.item() == terms.losses["hsakd"].item()
    assert_golden("hsakd_teacher", joint, student)
    assert joint_labels(wanted).tolist() == LOSSES["hsakd_teacher"]["joint_labels"]


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


NETWORKS = {
    "resnet20": ((16, 32), (32, 16), (64, 8)),
    "wrn_16_2": ((32, 32), (64, 16), (128, 8)),
    "vgg8": ((64, 32), (128, 16), (256, 8), (512, 4)),
    "ShuffleV1": ((240, 16), (480, 8), (960, 4)),
    "ShuffleV2": ((116, 16), (232, 8), (464, 4)),
    "MobileNetV2": ((12, 16), (16, 8), (48, 4), (160, 2)),
}


def golden_order(network: str, branches: AuxiliaryClassifiers) -> list[nn.Parameter]:
    """Bodies, then what follows them, then classifiers; ShuffleNet V2 has the second with the first."""
    together = network == "ShuffleV2"
    modules: list[nn.Module] = []
    for branch in branches:
        modules += [branch.body, branch.tail] if together else [branch.body]
    modules += [] if together else [branch.tail for branch in branches]
    modules += [branch.classifier for branch in branches]
    return [p for module in modules for p in module.parameters()]


@pytest.mark.parametrize("network", list(NETWORKS))
def test_branches(network: str) -> None:
    """Computes in float64, like the golden outputs, because MobileNetV2's batch norms over four pixels magnify
    rounding."""
    golden = LOSSES[f"hsakd_branches_{network}"]
    branches = AuxiliaryClassifiers(network, 400)
    parameters = golden_order(network, branches)
    assert [list(p.shape) for p in parameters] == [shape for _, shape in golden["parameters"]]
    for i, (parameter, (name, shape)) in enumerate(zip(parameters, golden["parameters"], strict=True)):
        parameter.data = parameter_value(400 + i, name, tuple(shape))
    maps = [tensor(310 + i, 4, width, size, size).double() for i, (width, size) in enumerate(NETWORKS[network])]
    scores = branches.double().read(Features(maps[0], (maps[0], *maps), maps[0], ()))
    assert_outputs(f"hsakd_branches_{network}", scores)


@pytest.mark.parametrize("network", list(COUNTS))
def test_branches_have_as_many_parameters_as_published(network: str) -> None:
    with torch.device("meta"):
        assert sum(p.numel() for p in AuxiliaryClassifiers(network, 400).parameters()) == COUNTS[network]


def test_refuses_other_numbers_of_stages_and_unknown_networks() -> None:
    settings = method_settings("hsakd")
    with pytest.raises(UserError, match="resnet20 has 3 and vgg8 has 4"):
        METHODS["hsakd"].check(settings, feature_shapes("resnet20"), feature_shapes("vgg8"))
    with pytest.raises(UserError, match="no auxiliary classifiers are defined for resnet18"):
        METHODS["hsakd"].check(settings, feature_shapes("resnet18"), feature_shapes("resnet34"))


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


def test_branches_are_not_the_students() -> None:
    """The head and the method hold branches; a divergence of equal scores is zero."""
    context = PretextContext(64, 10, "resnet8", 4)
    head: Any = PRETEXTS["hsakd"](small.spec(small.head("hsakd")).pretext, context)
    maps = [torch.randn(4, w, s, s) for w, s in ((16, 8), (16, 8), (32, 4), (64, 2))]
    scores = head.read(Features(maps[0], tuple(maps), torch.zeros(4, 64), ()))
    assert scores.shape == (3, 4, 16)
    torch.testing.assert_close(classifier_divergence(scores, scores, 3.0), torch.zeros(()), atol=1e-5, rtol=0)
